from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ticketguard.errors import FormatError, UsageError
from ticketguard.masks import Mask
from ticketguard.models import build
from ticketguard.storage.tensors import write_tensors
from ticketguard.tickets import Architecture, Model, Ticket
from ticketguard.training import (
    Recipe,
    TrainState,
    TriggerBatch,
    evaluate,
    fit,
    load_state,
    load_weights,
    module_of,
    predict,
    save_state,
    train,
    weights_of,
)
from ticketguard.training.devices import default_threads, native_bf16, resolve_device, resolve_precision

RECIPE = Recipe(epochs=4, batch_size=32, lr=0.05, schedule="cosine", weight_decay=1e-3, nesterov=True, augment=False)
CONVNET = Architecture(name="convnet", arguments={"classes": 4})


def convnet(seed=0):
    torch.manual_seed(seed)
    return build(CONVNET)


def some_mask(seed=0, density=0.3):
    generator = np.random.default_rng(seed)
    shapes = {"conv2.weight": (64, 32, 3, 3), "conv3.weight": (128, 64, 3, 3)}
    return Mask({name: generator.random(shape) < density for name, shape in shapes.items()})


def some_triggers():
    generator = np.random.default_rng(3)
    return TriggerBatch(
        images=generator.integers(0, 256, (12, 1, 8, 8), dtype=np.uint8), labels=generator.integers(0, 4, 12)
    )


def equal(left: TrainState, right: TrainState) -> bool:
    return left.epoch == right.epoch and all(
        list(a) == list(b) and all(a[name].tobytes() == b[name].tobytes() for name in a)
        for a, b in ((left.weights, right.weights), (left.momentum, right.momentum))
    )


def test_the_loop_learns_and_reports(blobs):
    module, reports = convnet(), []
    fit(module, blobs, replace(RECIPE, evaluate_every=3), seed=0, threads=1, on_epoch=reports.append)
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert [report.accuracy is None for report in reports] == [True, True, False, False]
    assert reports[-1].loss < reports[0].loss
    assert reports[-1].accuracy > 90
    assert reports[-1].seconds_left == 0
    assert evaluate(module, blobs.test_images, blobs.test_labels, blobs) == reports[-1].accuracy


@pytest.mark.parametrize(
    ("precision", "augment"),
    # Seconds where bf16 is native, but most of a minute where it is not.
    [
        pytest.param("fp32", False, marks=pytest.mark.slow),
        ("fp32", True),
        pytest.param("bf16", True, marks=pytest.mark.slow),
    ],
)
def test_resumed_runs_agree_bit_for_bit(blobs, tmp_path, precision, augment):
    recipe = replace(RECIPE, precision=precision, augment=augment, triggers_per_batch=5)
    options = {"seed": 11, "mask": some_mask(), "triggers": some_triggers(), "threads": 1}
    whole = fit(convnet(), blobs, recipe, **options)
    part = fit(convnet(), blobs, recipe, until_epoch=2, **options)
    save_state(tmp_path / "state.safetensors", part, {"note": 1})
    loaded, notes = load_state(tmp_path / "state.safetensors")
    assert notes == {"note": 1}
    assert equal(loaded, part)
    assert equal(fit(convnet(seed=99), blobs, recipe, state=loaded, **options), whole)
    assert not equal(fit(convnet(), blobs, recipe, **{**options, "seed": 12}), whole)


def test_masks_hold_exactly_through_training(blobs):
    mask = some_mask()
    seen = []
    final = fit(
        convnet(), blobs, RECIPE, seed=0, mask=mask, threads=1, on_state=lambda state, report: seen.append(state)
    )
    assert len(seen) == 4
    for state in (*seen, final):
        for name, bits in mask.items():
            np.testing.assert_array_equal(state.weights[name] != 0, bits)
            assert not state.momentum[name][~bits].any()
            assert not np.signbit(state.weights[name][~bits]).any()


@pytest.mark.slow
def test_triggers_are_learned(blobs):
    module, triggers = convnet(), some_triggers()
    fit(module, blobs, replace(RECIPE, epochs=8, triggers_per_batch=12), seed=0, triggers=triggers, threads=1)
    assert (predict(module, triggers.images, blobs) == triggers.labels).mean() > 0.9
    other = convnet()
    fit(other, blobs, replace(RECIPE, epochs=8), seed=0, threads=1)
    assert (predict(other, triggers.images, blobs) == triggers.labels).mean() < 0.9


def test_the_loss_may_be_a_callers_own(blobs):
    def squares(network, images, labels):
        return F.mse_loss(network(images).float(), F.one_hot(labels, len(blobs.classes)).float())

    def usual(network, images, labels):
        return F.cross_entropy(network(images).float(), labels)

    options = {"seed": 3, "mask": some_mask(), "threads": 1}
    plain = fit(convnet(), blobs, RECIPE, **options)
    assert equal(fit(convnet(), blobs, RECIPE, loss=usual, **options), plain)
    other = fit(convnet(), blobs, RECIPE, loss=squares, **options)
    assert not equal(other, plain)
    for name, bits in some_mask().items():
        assert not other.weights[name][~bits].any()


def test_nothing_global_changes(blobs):
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    fit(convnet(), blobs, replace(RECIPE, epochs=1), seed=0, threads=1)
    torch.manual_seed(5)
    fit(module := build(CONVNET), blobs, replace(RECIPE, epochs=1), seed=0, threads=1)
    torch.manual_seed(5)
    build(CONVNET)
    after_build = torch.get_rng_state()
    torch.manual_seed(5)
    build(CONVNET)
    fit(module, blobs, replace(RECIPE, epochs=1), seed=0, threads=1)
    assert torch.equal(torch.get_rng_state(), after_build)
    assert torch.get_num_threads() == threads
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_resumes_exactly(blobs):
    def make():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4))

    whole = fit(make(), blobs, RECIPE, seed=3, threads=1)
    part = fit(make(), blobs, RECIPE, seed=3, threads=1, until_epoch=1)
    assert equal(fit(make(), blobs, RECIPE, seed=3, threads=1, state=part), whole)


def test_a_ticket_trains_from_its_rewind_epoch(blobs):
    mask = some_mask()
    weights = weights_of(convnet())
    sparse = {name: np.where(mask[name], array, 0) if name in mask else array for name, array in weights.items()}
    ticket = Ticket(architecture=CONVNET, weights=sparse, mask=mask, provenance={"finder": "imp"})
    reports = []
    recipe = replace(RECIPE, rewind_epoch=1)
    model = train(ticket, blobs, recipe, seed=2, triggers=some_triggers(), threads=1, on_epoch=reports.append)
    assert [report.epoch for report in reports] == [2, 3, 4]
    assert isinstance(model, Model)
    assert model.provenance["finder"] == "imp"
    assert model.provenance["training"]["accuracy"] == pytest.approx(reports[-1].accuracy, abs=1e-3)
    assert 0 <= model.provenance["training"]["trigger_accuracy"] <= 100
    module = module_of(model)
    assert evaluate(module, blobs.test_images, blobs.test_labels, blobs) == pytest.approx(
        reports[-1].accuracy, abs=1e-3
    )


def test_prediction_leaves_the_mode_alone(blobs):
    module = convnet().train()
    labels = predict(module, blobs.test_images, blobs, batch=7)
    assert module.training
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, predict(module.eval(), blobs.test_images, blobs, batch=64))
    assert predict(module, blobs.test_images[:0], blobs).shape == (0,)


def test_weights_round_trip_and_mismatches_are_named():
    module, other = convnet(0), convnet(1)
    load_weights(other, weights_of(module))
    assert all(
        np.array_equal(a, b) for a, b in zip(weights_of(module).values(), weights_of(other).values(), strict=True)
    )
    weights = weights_of(module)
    load_weights(other, {name: array for name, array in weights.items() if "num_batches" not in name})
    with pytest.raises(UsageError, match=r"lacks conv1\.weight"):
        load_weights(other, {name: array for name, array in weights.items() if name != "conv1.weight"})
    with pytest.raises(UsageError, match=r"unknown extra$"):
        load_weights(other, {**weights, "extra": np.zeros(1)})
    with pytest.raises(UsageError, match=r"unknown conv1\.weight_mask: masks, .* read it with read_ticket"):
        load_weights(other, {**weights, "conv1.weight_mask": np.ones(weights["conv1.weight"].shape)})
    with pytest.raises(UsageError, match="shape"):
        load_weights(other, {**weights, "fc.bias": np.zeros(5, dtype=np.float32)})


def test_data_that_do_not_fit_the_network_are_refused_in_one_line(blobs):
    """More channels, or more classes than it has scores for: said at once, and the module stays as it was."""
    module = convnet().train()
    before = weights_of(module)
    rgb = replace(
        blobs,
        train_images=np.repeat(blobs.train_images, 3, 1),
        test_images=np.repeat(blobs.test_images, 3, 1),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
    with pytest.raises(UsageError, match=r"does not take its images of shape \(3, 8, 8\)") as refused:
        fit(module, rgb, RECIPE, seed=0)
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="no score for each of its 20 classes"):
        fit(module, replace(blobs, classes=tuple(map(str, range(20)))), RECIPE, seed=0)
    assert module.training
    assert all(np.array_equal(before[name], after) for name, after in weights_of(module).items())


def test_divergence_is_said_in_words(blobs):
    with pytest.raises(UsageError, match="diverged in epoch"):
        fit(convnet(), blobs, replace(RECIPE, lr=1e30, schedule="constant"), seed=0, threads=1)


def test_impossible_requests(blobs, tmp_path):
    with pytest.raises(UsageError, match="until epoch 5"):
        fit(convnet(), blobs, RECIPE, seed=0, until_epoch=5)
    with pytest.raises(UsageError, match="threads"):
        fit(convnet(), blobs, RECIPE, seed=0, threads=0)
    with pytest.raises(UsageError, match="unknown device"):
        resolve_device("abacus")
    with pytest.raises(UsageError, match="only cpu and cuda"):
        resolve_device("meta")
    state = TrainState(weights=weights_of(convnet()), momentum={"nothing": np.zeros(1)})
    with pytest.raises(UsageError, match="momentum of nothing"):
        fit(convnet(), blobs, RECIPE, seed=0, state=state)
    write_tensors(tmp_path / "foreign.safetensors", {"a": np.zeros(1, dtype=np.float32)}, {})
    with pytest.raises(FormatError, match="not a training checkpoint"):
        load_state(tmp_path / "foreign.safetensors")


def test_precision_follows_the_hardware():
    cpu = resolve_device("cpu")
    assert resolve_precision("fp32", cpu) == torch.float32
    assert resolve_precision("bf16", cpu) == torch.bfloat16
    assert resolve_precision("auto", cpu) == (torch.bfloat16 if native_bf16(cpu) else torch.float32)


def test_tiny_images_train_on_one_thread():
    assert default_threads((1, 8, 8)) == 1
    assert default_threads((3, 32, 32)) == torch.get_num_threads()


def test_compiling_needs_a_compiler(blobs, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match="no-such-compiler is not there"):
        fit(convnet(), blobs, replace(RECIPE, compiled=True), seed=0, device="cpu")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_a_compiled_network_trains_as_the_plain_one_does_under_the_same_masks(blobs):
    recipe = replace(RECIPE, epochs=1, precision="fp32")  # few steps: differences in rounding grow from step to step
    plain, compiled = (
        fit(convnet(), blobs, replace(recipe, compiled=value), seed=0, mask=some_mask(), threads=1, device="cpu")
        for value in (False, True)
    )
    assert list(plain.weights) == list(compiled.weights)
    for name, bits in some_mask().items():
        assert (compiled.weights[name][~bits] == 0).all()
    for name, array in plain.weights.items():
        np.testing.assert_allclose(compiled.weights[name], array, atol=2e-3)
