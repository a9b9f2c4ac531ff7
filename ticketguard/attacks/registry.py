"""The literal table of attacks, and stacks of them by name: `permute+prune-magnitude`."""

from __future__ import annotations

from difflib import get_close_matches

from ticketguard.attacks.add_on import AddOn, Fake2
from ticketguard.attacks.adversarial import AdversarialRetraining
from ticketguard.attacks.base import Attack
from ticketguard.attacks.controls import OtherOwner, Unsigned
from ticketguard.attacks.densify import Densify, DensifyPrune
from ticketguard.attacks.distill import Distill
from ticketguard.attacks.distill_other import DistillOther
from ticketguard.attacks.dummies import DummyClique, DummySplit, DummyZero
from ticketguard.attacks.duplicates import DuplicateEraser
from ticketguard.attacks.extract_soft import ExtractSoft
from ticketguard.attacks.fake1 import Fake1
from ticketguard.attacks.fake3 import Fake3
from ticketguard.attacks.fill import Fill
from ticketguard.attacks.fine_pruning import FinePruning
from ticketguard.attacks.finetune import Finetune, FinetuneLast, RetrainAll, RetrainLast
from ticketguard.attacks.fold_norm import FoldNorm
from ticketguard.attacks.input_flip import InputFlip
from ticketguard.attacks.input_jpeg import InputJpeg
from ticketguard.attacks.input_pixels import InputBlur, InputDepth, InputNoise
from ticketguard.attacks.leaked import LeakedAll, LeakedOne
from ticketguard.attacks.licensee import LicenseeCopy
from ticketguard.attacks.nad import AttentionDistillation
from ticketguard.attacks.overwrite import Overwrite
from ticketguard.attacks.pad_kernels import PadKernels
from ticketguard.attacks.permute import Permute
from ticketguard.attacks.prune_magnitude import PruneMagnitude
from ticketguard.attacks.prune_random import PruneRandom
from ticketguard.attacks.quantize import BrainFloat, Quantize
from ticketguard.attacks.query_filter import QueryFilter
from ticketguard.attacks.rename import Rename
from ticketguard.attacks.rescale import Rescale
from ticketguard.attacks.retrain import RetrainL2, RetrainSmoothing
from ticketguard.attacks.rewire import RewireCell, RewireGuided, RewireLoud, RewireRow
from ticketguard.attacks.sign_flip import SignFlip
from ticketguard.attacks.stacked import Stacked
from ticketguard.attacks.transfer import Transfer
from ticketguard.attacks.turn import Turn
from ticketguard.attacks.unlearn import TriggerUnlearning
from ticketguard.attacks.unrelated import Unrelated
from ticketguard.attacks.weight_noise import WeightNoise
from ticketguard.attacks.weight_shift import WeightShift
from ticketguard.errors import UsageError

ATTACKS: dict[str, type[Attack]] = {
    # Compression, as anybody's deployment does it.
    "prune-magnitude": PruneMagnitude,
    "prune-random": PruneRandom,
    "quantize": Quantize,
    "bf16": BrainFloat,
    # Training on.
    "finetune": Finetune,
    "ftll": FinetuneLast,
    "rtal": RetrainAll,
    "rtll": RetrainLast,
    "densify": Densify,
    "densify-prune": DensifyPrune,
    "retrain-l2": RetrainL2,
    "retrain-smoothing": RetrainSmoothing,
    "adversarial": AdversarialRetraining,
    # Aimed at the topology.
    "add-on": AddOn,
    "rewire-cell": RewireCell,
    "rewire-row": RewireRow,
    "rewire-guided": RewireGuided,
    "rewire-loud": RewireLoud,
    "duplicate-eraser": DuplicateEraser,
    "weight-noise": WeightNoise,
    "weight-shift": WeightShift,
    "fine-pruning": FinePruning,
    "overwrite": Overwrite,
    "leaked-one": LeakedOne,
    "leaked-all": LeakedAll,
    # Lossless: another form of the same function.
    "permute": Permute,
    "rescale": Rescale,
    "sign-flip": SignFlip,
    "dummy-zero": DummyZero,
    "dummy-clique": DummyClique,
    "dummy-split": DummySplit,
    "fold-norm": FoldNorm,
    "fill": Fill,
    "licensee-copy": LicenseeCopy,
    "rename": Rename,
    "pad-kernels": PadKernels,
    # The same function for turned images.
    "turn": Turn,
    # Aimed at the triggers.
    "nad": AttentionDistillation,
    "unlearn": TriggerUnlearning,
    "input-flip": InputFlip,
    "input-jpeg": InputJpeg,
    "input-noise": InputNoise,
    "input-blur": InputBlur,
    "input-depth": InputDepth,
    "query-filter": QueryFilter,
    # A new network from the old one's answers.
    "distill": Distill,
    "distill-other": DistillOther,
    "extract-soft": ExtractSoft,
    # As the paper names them (Chen et al. 2021).
    "fake1": Fake1,
    "fake2": Fake2,
    "fake3": Fake3,
    "transfer": Transfer,
    # Controls: a match would be a false accusation.
    "unrelated": Unrelated,
    "unsigned": Unsigned,
    "other-owner": OtherOwner,
}


def make(name: str, strength: float | None = None) -> Attack:
    """The attack `name` at `strength` (by default the middle of its grid), or a stack `a+b` of any two or more.

    In a stack, a part written `a@0.3` has that strength; `strength` goes to the other parts, except that lossless parts are
    taken at full strength as long as some part is not lossless. Raises `UsageError` for an unknown name or a bad strength.
    """
    parts = [part.partition("@") for part in name.split("+")]
    kinds = [_kind(part) for part, _, _ in parts]
    if len(parts) == 1 and not parts[0][1]:
        return kinds[0](strength=middle(kinds[0]) if strength is None else strength)
    chosen: list[Attack] = []
    for (_, at, own), kind, takes in zip(parts, kinds, _open(name), strict=True):
        if at:
            chosen.append(kind(strength=_number(name, own)))
        elif strength is None or not takes:
            chosen.append(kind(strength=kind.strengths[-1] if kind.lossless else middle(kind)))
        else:
            chosen.append(kind(strength=strength))
    return chosen[0] if len(chosen) == 1 else Stacked(parts=tuple(chosen), strength=strength or 0.0)


def strengths(name: str) -> tuple[float, ...]:
    """The default grid of an attack, or of the first lossy part of a stack that leaves its strength open."""
    kinds = [_kind(part) for part in name.split("+") if "@" not in part]
    if not kinds:
        return (0.0,)
    return next((kind.strengths for kind in kinds if not kind.lossless), kinds[0].strengths)


def takes_strength(name: str) -> bool:
    """Whether `make(name, strength)` gives its strength to any part."""
    return any(_open(name))


def _open(name: str) -> list[bool]:
    """Which parts leave their strength to `make`: those without one of their own, lossless ones only among their like."""
    parts = name.split("+")
    lossy = any(not _kind(part).lossless for part in parts)
    return ["@" not in part and not (_kind(part).lossless and lossy) for part in parts]


def trains(name: str) -> bool:
    """Whether an attack, or any part of a stack, trains."""
    return any(_kind(part).trains for part in name.split("+"))


def middle(kind: type[Attack]) -> float:
    """The strength in the middle of an attack's default grid."""
    return kind.strengths[len(kind.strengths) // 2]


def _kind(name: str) -> type[Attack]:
    plain = name.partition("@")[0]
    if plain not in ATTACKS:
        near = get_close_matches(plain, ATTACKS, n=2)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(f"unknown attack {plain[:80]!r}: {meant}ticketguard attack --list shows all; two go as a+b")
    return ATTACKS[plain]


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as problem:
        raise UsageError(f"attack {name}: strength {text!r} is not a number") from problem
