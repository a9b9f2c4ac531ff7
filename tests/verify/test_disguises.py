"""Disguises of a stolen copy, each in every width: read, or not cleared; a wrong NO MATCH lay where two of them met."""

import numpy as np
import pytest

MASKED = ("conv2.weight", "conv3.weight")
# Layers that make the channels of a group, those that read them, and parameters of one value a channel, in order.
GROUPS = (
    ("conv1.weight", "conv2.weight"),
    ("conv2.weight", "conv3.weight"),
    ("conv3.weight", "fc.weight"),
)


def widened(weights, extra, rng, *, loud=1.0):
    """The same function with `extra` channels more in every group: dead after the ReLU, but with edges, and read."""
    wide = dict(weights)
    for made, read in GROUPS:
        count = extra(wide[made].shape[0])
        shape = (count, *wide[made].shape[1:])
        kept = rng.random(shape) < 0.3
        wide[made] = np.concatenate([wide[made], (-loud * np.abs(rng.normal(size=shape)) * kept).astype(np.float32)])
        bias = made.replace("weight", "bias")
        if bias in wide:
            wide[bias] = np.concatenate([wide[bias], np.full(count, -loud, np.float32)])
        columns = (wide[read].shape[0], count, *wide[read].shape[2:])
        kept = rng.random(columns) < 0.3
        more = (loud * rng.normal(size=columns) * kept).astype(np.float32)
        wide[read] = np.concatenate([wide[read], more], axis=1)
    return wide


def framed(weights, rng, *, loud=1.0):
    """The same function beside dead channels that show the owner's frame, which is public, with edges in other places."""
    wide = dict(weights)
    for number, (made, _) in enumerate(GROUPS):
        own = weights[made]
        edges = rng.permuted((own != 0).reshape(*own.shape[:2], -1), axis=2).reshape(own.shape)
        decoys = (-loud * np.abs(rng.normal(size=own.shape)) * edges).astype(np.float32)
        if number == 0:
            wide[made] = np.concatenate([own, decoys])
        else:
            blank = np.zeros_like(own)
            rows = [np.concatenate(pair, axis=1) for pair in ((own, blank), (blank, decoys))]
            wide[made] = np.concatenate(rows)
    read = weights[GROUPS[-1][1]]
    wide["fc.weight"] = np.concatenate([read, (loud * rng.normal(size=read.shape)).astype(np.float32)], axis=1)
    return wide


def spoilt(weights, name, change):
    return {**weights, **{key: change(value) for key, value in weights.items() if key in name}}


def with_zero_point(values):
    scale = np.abs(values).max() / 100
    return (np.rint(values / scale) + 130).astype(np.uint8)


def padded(values):
    return np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))


def swapped(weights):
    return {**weights, "conv2.weight": weights["conv3.weight"], "conv3.weight": weights["conv2.weight"]}


WIDTHS = {"as registered": None, "one more": lambda _: 1, "twice": lambda count: count, "beside the frame": "frame"}
DISGUISES = {
    "plain": lambda w: w,
    "NaN for zero": lambda w: spoilt(w, MASKED, lambda v: np.where(v == 0, np.nan, v)),
    "codes": lambda w: spoilt(w, MASKED, with_zero_point),
    "wide codes": lambda w: spoilt(w, MASKED, lambda v: with_zero_point(v).astype(np.int64) + 2**60),
    "padded kernels": lambda w: spoilt(w, MASKED, padded),
    "names swapped": swapped,
    "beyond squares": lambda w: spoilt(w, MASKED, lambda v: v.astype(np.float64) * 2.0**600),
    "flattened": lambda w: spoilt(w, MASKED, lambda v: v.reshape(len(v), -1)),
}


@pytest.mark.parametrize("loud", [1.0, 1e8])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_disguise_clears_a_copy_in_any_width(signed, disguise, width, loud):
    weights, extra, rng = dict(signed.permuted), WIDTHS[width], np.random.default_rng(0)
    if extra == "frame":
        weights = framed(weights, rng, loud=loud)
    elif extra is not None:
        weights = widened(weights, extra, rng, loud=loud)
    verdict = signed.examiner.verify(DISGUISES[disguise](weights))
    assert verdict.decision != "NO MATCH", verdict.reason


def test_a_subnormal_edge_does_not_choose_the_place_of_all_kernels(signed):
    """One over a subnormal number is infinite, and so was its weight."""
    weights = {
        name: padded(value).astype(np.float64) if name in MASKED else value for name, value in signed.model.items()
    }
    assert signed.examiner.verify(weights).decision == "MATCH"
    tiny = np.zeros_like(weights["conv3.weight"][:1])
    tiny[0, 0, 0, 0] = 5e-324
    spare = {**weights, "conv3.weight": np.concatenate([weights["conv3.weight"], tiny])}
    spare["fc.weight"] = np.concatenate([weights["fc.weight"], np.zeros_like(weights["fc.weight"][:, :1])], axis=1)
    verdict = signed.examiner.verify(spare, align="always")
    (support,) = [e for e in verdict.evidence if (e.test, e.scope, e.view) == ("support", "pooled", "aligned")]
    assert (support.n, support.matches) == (signed.n, signed.n)
