"""Verdicts on suspects of every form, from one signed model: read whatever was done to the file, and never fooled by it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ticketguard import signing
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.registration import STATISTICS
from ticketguard.errors import AuthenticityError, UsageError
from ticketguard.evidence import UNREAD, VIEWS, Verdict
from ticketguard.signatures.turns import TURNS
from ticketguard.signing import rule_of
from ticketguard.storage.tensors import bf16, in_memory
from ticketguard.triggers.plan import plan_of
from ticketguard.triggers.render import targets
from ticketguard.verify.verifier import TURN_BITS, Examiner

ROOT = Path(__file__).parents[2]


def pooled(verdict, test="support", view="stored"):
    return next(e for e in verdict.evidence if (e.test, e.scope, e.view) == (test, "pooled", view))


def as_keras(value):
    """(*kernel, in, out)."""
    return value.transpose(*range(2, value.ndim), 1, 0) if value.ndim >= 2 else value


def ringed(value):
    """A convolution of 5 x 5 kernels for one of 3 x 3."""
    return np.pad(value, ((0, 0), (0, 0), (1, 1), (1, 1))) if value.ndim == 4 else value


FORMS = {
    "as trained": lambda s: s.model,
    "DataParallel": lambda s: {f"module.{name}": value for name, value in s.model.items()},
    "torch.compile": lambda s: {f"_orig_mod.{name}": value for name, value in s.model.items()},
    "Lightning around compile": lambda s: {f"model._orig_mod.{name}": value for name, value in s.model.items()},
    "torch.nn.utils.prune": lambda s: {
        **{name: value for name, value in s.model.items() if name not in s.mask},
        **{f"{name}_orig": np.where(bits, s.model[name], 0.25) for name, bits in s.mask.items()},
        **{f"{name}_mask": bits.astype(np.float32) for name, bits in s.mask.items()},
    },
    "bare masks": lambda s: {f"{name}_mask": bits.astype(np.uint8) for name, bits in s.mask.items()},
    "half precision": lambda s: {name: value.astype(np.float16) for name, value in s.model.items()},
    "double precision": lambda s: {name: value.astype(np.float64) for name, value in s.model.items()},
    "bfloat16": lambda s: in_memory({name: bf16(value) for name, value in s.model.items()}),
    "renamed": lambda s: {f"layer{number}": value for number, value in enumerate(s.model.values())},
    "negated": lambda s: {name: -value for name, value in s.model.items()},
    "lying mask buffers": lambda s: {
        **s.model,
        **{f"{name}_mask": np.ones_like(bits, dtype=np.uint8) for name, bits in s.mask.items()},
    },
    "as Keras stores it": lambda s: {f"{name}/kernel": as_keras(value) for name, value in s.model.items()},
    "kernels with zeros around": lambda s: {name: ringed(value) for name, value in s.model.items()},
    "one layer of two": lambda s: {"conv3.weight": s.model["conv3.weight"]},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_signed_model_matches_in_every_form(signed, form):
    verdict = signed.plain.verify(FORMS[form](signed))
    assert verdict.decision == "MATCH"
    assert pooled(verdict).n == pooled(verdict).matches
    assert pooled(verdict).n == signed.n or form == "one layer of two"


def test_the_untrained_ticket_matches(signed):
    weights = signed.bundle.read_ticket().weights
    assert pooled(signed.plain.verify(weights)).bits == signed.n


def test_permuted_channels_match_once_aligned_and_not_as_stored(signed):
    stored = signed.examiner.verify(signed.permuted, align="never")
    assert pooled(stored).bits < 20
    assert stored.decision == "INCONCLUSIVE"  # what was not looked at clears nobody
    assert any(note.startswith(f"{UNREAD}channels in another order: alignment") for note in stored.notes)
    verdict = signed.examiner.verify(signed.permuted)
    assert verdict.decision == "MATCH"
    assert pooled(verdict, view="aligned").matches == signed.n
    assert verdict.against_chance_bits == signed.n - 6
    keras = signed.examiner.verify({name: as_keras(value) for name, value in signed.permuted.items()})
    assert (keras.decision, keras.evidence) == (verdict.decision, verdict.evidence)


def turn_kernels(weights, turn):
    return {name: TURNS[turn](value) if value.ndim == 4 else value for name, value in weights.items()}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_kernels_match_at_a_charge(signed, turn):
    verdict = signed.examiner.verify(turn_kernels(signed.model, turn))
    assert verdict.decision == "MATCH"
    (found,) = [
        item for item in verdict.evidence if (item.test, item.scope, item.view) == ("support", "pooled", "turned")
    ]
    assert (found.n, found.matches) == (signed.n, signed.n)
    assert found.bits == signed.n - TURN_BITS
    assert any("kernels read" in note for note in verdict.notes)
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_turned_kernels_of_permuted_and_pruned_channels_match_too(signed):
    rng = np.random.default_rng(0)
    pruned = {name: value * (rng.random(value.shape) < 0.7) for name, value in signed.permuted.items()}
    verdict = signed.examiner.verify(turn_kernels(pruned, "rotated by 90 degrees"))
    assert verdict.decision == "MATCH"
    assert verdict.best.view == "turned"


def test_turned_kernels_of_strangers_are_not_even_reported(signed):
    for turn in TURNS:
        verdict = signed.examiner.verify(turn_kernels(signed.unrelated, turn))
        assert verdict.decision == "NO MATCH"
        assert {item.view for item in verdict.evidence} <= {"stored", "aligned"}


def test_every_plan_has_room_for_turned_kernels(signed):
    """M counts every test in every view, also those of triggers in the aligned view: what turns are charged fits in there."""
    scope = 2 * len(VIEWS) + 1 + 2 * len(TURNS) * 2.0**-TURN_BITS
    # The least M that a registration may name: see `claims.registration.parse`.
    assert scope <= len(STATISTICS) * len(VIEWS)
    assert all(rule_of(leaves).tests >= scope * (leaves + 1) for leaves in (1, 4, 16, 64))


def test_automatic_alignment_spares_what_passes_as_stored(signed):
    assert {e.view for e in signed.examiner.verify(signed.model).evidence} == {"stored"}
    for align in ("auto", "never"):
        assert not any(note.startswith(UNREAD) for note in signed.examiner.verify(signed.model, align=align).notes)
    without = Examiner(signed.opening).verify(signed.permuted)
    assert any(note.startswith(f"{UNREAD}channels in another order: the released") for note in without.notes)
    assert without.decision == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("align", "decision"), [("auto", "NO MATCH"), ("always", "NO MATCH"), ("never", "INCONCLUSIVE")]
)
def test_an_unrelated_model_is_no_match_once_aligned(signed, align, decision):
    verdict = signed.examiner.verify(signed.unrelated, align=align)
    assert verdict.decision == decision
    assert verdict.best.bits < 20


@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_key_is_no_match(signed, seed):
    ticket = signed.bundle.read_ticket()
    registered = signing.register(
        ticket, SecretKey.from_seed(bytes([seed]) * 32), owner="Thief", master=bytes([seed]) * 32, nonce=bytes(32)
    )
    opening = registered.opening
    verdict = Examiner(opening, reference=lambda: signed.examiner.reference).verify(signed.model)
    assert verdict.decision == "NO MATCH"
    assert verdict.best.bits < 20


NOTHING = {
    "nothing": lambda s: {},
    "other layers": lambda s: {"embedding.weight": np.ones((5, 7))},
    "scalars and vectors": lambda s: {"a": np.array(1.0), "b": np.ones(9)},
    "all NaN": lambda s: {name: np.full_like(value, np.nan) for name, value in s.model.items()},
    "all infinite": lambda s: {name: np.full_like(value, np.inf) for name, value in s.model.items()},
    "all zero": lambda s: {name: np.zeros_like(value) for name, value in s.model.items()},
    "all equal": lambda s: {name: np.ones_like(value) for name, value in s.model.items()},
}


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("align", ["never", "always"])
def test_suspects_without_anything_comparable_are_inconclusive(signed, name, align):
    verdict = signed.examiner.verify(NOTHING[name](signed), align=align)
    assert verdict.decision == "INCONCLUSIVE"
    assert "nothing comparable" in verdict.reason


def test_not_finite_weights_cost_evidence_and_never_poison_it(signed):
    rng = np.random.default_rng(0)
    spoilt = {name: np.where(rng.random(value.shape) < 0.3, np.nan, value) for name, value in signed.model.items()}
    verdict = signed.plain.verify(spoilt)
    assert verdict.decision == "MATCH"
    assert pooled(verdict).erasures > 200
    assert all(np.isfinite(item.log2_p) for item in verdict.evidence)


def test_half_pruned_models_match(signed):
    rng = np.random.default_rng(1)
    pruned = {name: np.where(rng.random(value.shape) < 0.5, 0, value) for name, value in signed.model.items()}
    assert signed.plain.verify(pruned).decision == "MATCH"


def test_filled_models_match_by_magnitude_alone(signed):
    rng = np.random.default_rng(2)
    filled = {
        name: np.where(value != 0, value, 0.05 * rng.normal(size=value.shape)) for name, value in signed.model.items()
    }
    verdict = signed.plain.verify(filled)
    assert verdict.decision == "MATCH"
    assert verdict.best.test == "magnitude"
    assert pooled(verdict).n == 0


def test_suspects_in_a_scan_are_paid_for(signed):
    one, many = signed.plain.verify(signed.model), signed.plain.verify(signed.model, suspects=1024)
    assert many.bar_bits == one.bar_bits + 10
    assert many.against_chance_bits == one.against_chance_bits - 10


def test_the_rule_is_the_registered_one(signed):
    assert signed.plain.opening.rule().bar_bits == 126
    assert signed.plain.opening.rule(2).tests == signed.opening.registration.tests


def answers(signed, right):
    plan = plan_of(signed.opening.registration)
    labels = np.concatenate([value for _, value in sorted(targets(signed.opening, plan).items())])
    wrong = np.arange(len(labels)) * 97 % len(labels) >= right
    return np.where(wrong, (labels + 1) % 10, labels)


@pytest.mark.parametrize(
    ("right", "decision"), [(256, "MATCH"), (230, "MATCH"), (64, "INCONCLUSIVE"), (26, "NO MATCH")]
)
def test_predictions_alone_decide(signed, right, decision):
    assert signed.plain.verify(predictions=answers(signed, right)).decision == decision


def test_answers_to_one_leaf_are_enough(signed):
    labels = answers(signed, 256)
    labels[64:] = -1
    verdict = signed.plain.verify(predictions=labels)
    assert verdict.decision == "MATCH"
    assert {e.scope for e in verdict.evidence if e.bits >= 126} == {"pooled", "leaf 0"}


def test_weights_and_predictions_join_in_one_verdict(signed):
    verdict = signed.plain.verify(signed.unrelated, predictions=answers(signed, 256), align="never")
    assert verdict.decision == "MATCH"
    assert verdict.best.test == "triggers"
    assert {e.test for e in verdict.evidence} == {"support", "magnitude", "triggers"}


def test_a_label_map_is_charged(signed):
    plain = signed.plain.verify(predictions=answers(signed, 256))
    charged = signed.plain.verify(predictions=answers(signed, 256), charge_bits=21.8)
    assert charged.best.bits == pytest.approx(plain.best.bits - 21.8, abs=1e-6)


def test_predictions_without_registered_triggers_are_refused(signed):
    ticket = signed.bundle.read_ticket()
    registered = signing.register(ticket, SecretKey.generate(), owner="Lab")
    opening = registered.opening
    with pytest.raises(UsageError, match="no triggers"):
        Examiner(opening).verify(predictions=np.zeros(256, np.int64))


def test_a_reference_that_was_not_committed_is_refused(signed):
    def other():
        return {name: counts + 1 for name, counts in signed.examiner.reference.items()}

    with pytest.raises(AuthenticityError, match="frame is not the registered one"):
        Examiner(signed.opening, reference=other).verify(signed.permuted)


def test_verdicts_can_be_recomputed_from_their_json(signed):
    for weights in (signed.model, signed.unrelated, {}):
        verdict = signed.plain.verify(weights, supplied_by="a judge", notes=("seen",), context={"suspect": "x"})
        assert Verdict.from_json(verdict.to_json()) == verdict
        assert (verdict.supplied_by, verdict.notes[0]) == ("a judge", "seen")


def test_verifying_twice_gives_the_same_verdict(signed):
    assert signed.examiner.verify(signed.permuted) == signed.examiner.verify(signed.permuted)


PROGRAM = """
import sys
from ticketguard.commands import run
code = run(["verify", sys.argv[1], "--signed", sys.argv[2]])
print(code, *[name for name in ("torch", "scipy.optimize", "networkx", "sklearn") if name in sys.modules])
"""


def test_a_verdict_loads_no_torch():
    """The whole command, in a process of its own."""
    folder = ROOT / "fixtures" / "bundle-v1"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder / "suspects" / "half.safetensors", folder],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"TICKETGUARD_PASSPHRASE": "fixture", "PATH": ""},
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "0", done.stdout + done.stderr


def test_signalling_nans_are_nans_without_a_warning(signed):
    """Numpy warns of every one, with a line of our source on the user's terminal. Warnings are errors here."""
    suspect = {name: value.copy() for name, value in signed.permuted.items()}
    for name in signed.mask:
        suspect[name].view(np.uint32).ravel()[::7] = 0x7F800001
    assert {item.erasures for item in signed.examiner.verify(suspect, align="always").evidence} != {0}
    larger = {
        name: np.pad(value, ((0, 0), (0, 0), (1, 1), (1, 1))) for name, value in suspect.items() if value.ndim == 4
    }
    signed.examiner.verify(larger, align="always")
    wide = {name: np.repeat(value, 2, axis=0) for name, value in suspect.items() if name == "conv1.weight"}
    signed.examiner.verify({**suspect, **wide, "conv2.weight": np.repeat(suspect["conv2.weight"], 2, axis=1)})
