"""Symmetry groups: which channel axes of a network must move together for its function to stay the same.

A *group* is a set of interchangeable channels: reordering them, in the same way on every axis that carries them, leaves the
network's function unchanged. An *axis* is one dimension of one parameter, cut into *segments*: runs of channels of one group
(or fixed positions). Concatenation, zero padding of channels and flattening into a linear layer are all runs of segments, so
nothing here knows about them. The value is plain data: verifying needs no model code. `ticketguard.tracing` finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError

MAX_GROUPS = 4096
MAX_PARAMETERS = 65_536
MAX_SEGMENTS = 65_536
MAX_LENGTH = 1 << 22
MAX_CHANNELS = 1 << 22
MAX_POSITIONS = 1 << 24
MAX_NOTES = 256
MAX_TEXT = 512
# Positions of the longest axis whose layout is kept from one call to the next.
MOST_REMEMBERED = 1 << 13

Indices = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Some interchangeable channels: `size` of them.

    `scalable`: each may also be multiplied by a positive number where it is made and divided by it wherever it is read,
    because only piecewise-linear steps lie in between.
    """

    size: int
    scalable: bool = False


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of an axis: channels `start` to `start + count - 1` of `group`, each on `repeat` consecutive positions.

    `group` is None for positions that never move; then `start` is 0 and `repeat` is 1.
    """

    group: int | None
    start: int = 0
    count: int
    repeat: int = 1

    @property
    def length(self) -> int:
        """Positions that the run takes on its axis."""
        return self.count * self.repeat


Axis: TypeAlias = tuple[Segment, ...]
Axes: TypeAlias = tuple[Axis | None, ...]


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A batch norm that reads one layer's output and nothing else: parameter names (None where it has none) and its epsilon."""

    mean: str
    variance: str
    scale: str | None = None
    shift: str | None = None
    epsilon: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """The symmetry of a network.

    `axes` maps every parameter and buffer that carries channels to the axes of its leading dimensions: dimension 0 (for a
    layer: the output units), dimension 1 (its inputs), ...; None where a dimension carries no channel (a depthwise filter's
    inputs, a bias's absent second dimension). `norms` maps a layer's weight to the batch norm that follows it directly;
    `biases` maps a layer's weight to its bias. `leave_out` names layers whose topology an invertible linear map erases for
    free. `notes` says in words what alignment cannot undo.
    """

    groups: tuple[Group, ...] = ()
    axes: Mapping[str, Axes] = field(default_factory=dict)
    norms: Mapping[str, Norm] = field(default_factory=dict)
    biases: Mapping[str, str] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.groups) > MAX_GROUPS or len(self.axes) > MAX_PARAMETERS:
            raise FormatError("symmetry: too many groups or parameters")
        if sum(group.size for group in self.groups) > MAX_CHANNELS:
            raise FormatError(f"symmetry: more than {MAX_CHANNELS} channels")
        segments = positions = 0
        for name, axes in self.axes.items():
            if not 1 <= len(axes) <= 8:
                raise FormatError(f"symmetry of {name}: {len(axes)} axes, expected 1 to 8")
            for axis in axes:
                if axis is not None:
                    segments += len(axis)
                    positions += sum(segment.count * segment.repeat for segment in axis)
                    if segments > MAX_SEGMENTS or positions > MAX_POSITIONS:
                        raise FormatError("symmetry: too many segments or positions")
                    _check_axis(name, axis, self.groups)

    def axis(self, name: str, dimension: int) -> Axis | None:
        """The axis of one dimension of parameter `name`; None when it carries no channel or is not known."""
        axes = self.axes.get(name, ())
        return axes[dimension] if dimension < len(axes) else None

    def to_json(self) -> dict[str, object]:
        """Plain JSON; `Symmetry.from_json(x.to_json()) == x`. Lists keep the order of parameters."""
        return {
            "groups": [{"scalable": group.scalable, "size": group.size} for group in self.groups],
            "axes": [
                {"name": name, "axes": [None if axis is None else [_to_list(s) for s in axis] for axis in axes]}
                for name, axes in self.axes.items()
            ],
            "norms": [{"layer": name, **_norm_to_json(norm)} for name, norm in self.norms.items()],
            "biases": [{"layer": name, "bias": bias} for name, bias in self.biases.items()],
            "leave_out": list(self.leave_out),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, document: object) -> Symmetry:
        """Read what `to_json` wrote. Anything else, and anything inconsistent, raises `FormatError`."""
        top = _object(document, "symmetry", {"groups", "axes", "norms", "biases", "leave_out", "notes"})
        groups = tuple(_group(item) for item in _list(top["groups"], "groups", MAX_GROUPS))
        axes: dict[str, Axes] = {}
        for item in _list(top["axes"], "axes", MAX_PARAMETERS):
            entry = _object(item, "axes", {"name", "axes"})
            _insert(axes, entry["name"], tuple(_axis(axis) for axis in _list(entry["axes"], "axes", 8)), "axes")
        norms: dict[str, Norm] = {}
        for item in _list(top["norms"], "norms", MAX_PARAMETERS):
            entry = _object(item, "norms", {"layer", "mean", "variance", "scale", "shift", "epsilon"})
            _insert(norms, entry["layer"], _norm(entry), "norms")
        biases: dict[str, str] = {}
        for item in _list(top["biases"], "biases", MAX_PARAMETERS):
            entry = _object(item, "biases", {"layer", "bias"})
            _insert(biases, entry["layer"], _text(entry["bias"], "biases"), "biases")
        return cls(
            groups=groups,
            axes=axes,
            norms=norms,
            biases=biases,
            leave_out=tuple(_text(x, "leave_out") for x in _list(top["leave_out"], "leave_out", MAX_PARAMETERS)),
            notes=tuple(_text(x, "notes") for x in _list(top["notes"], "notes", MAX_NOTES)),
        )


def length(axis: Axis) -> int:
    """Number of positions of an axis."""
    return sum(segment.length for segment in axis)


def expand(axis: Axis) -> tuple[Indices, Indices]:
    """Group (-1 on fixed positions) and channel (0 there) of every position of an axis: two read-only int64 arrays."""
    # A descent asks for the same few axes thousands of times; long ones are not worth their memory.
    return _expand_once(axis) if length(axis) <= MOST_REMEMBERED else _expand(axis)


def _expand(axis: Axis) -> tuple[Indices, Indices]:
    if not axis:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    groups = [np.full(s.length, -1 if s.group is None else s.group, dtype=np.int64) for s in axis]
    channels = [
        np.zeros(s.length, dtype=np.int64)
        if s.group is None
        else np.repeat(np.arange(s.start, s.start + s.count, dtype=np.int64), s.repeat)
        for s in axis
    ]
    return np.concatenate(groups), np.concatenate(channels)


@lru_cache(maxsize=256)
def _expand_once(axis: Axis) -> tuple[Indices, Indices]:
    owners, channels = _expand(axis)
    owners.flags.writeable = channels.flags.writeable = False
    return owners, channels


def fixed_axis(positions: int) -> Axis:
    """An axis whose positions never move."""
    return (Segment(group=None, count=positions),)


def _check_axis(name: str, axis: Axis, groups: Sequence[Group]) -> None:
    """Every group on an axis covers each of its channels equally often; lengths are bounded."""
    if not axis:
        raise FormatError(f"symmetry of {name}: an axis without positions")
    for segment in axis:
        limit = MAX_LENGTH if segment.group is None else _size(name, segment.group, groups)
        if segment.start < 0 or segment.count < 1 or segment.repeat < 1 or segment.start + segment.count > limit:
            raise FormatError(f"symmetry of {name}: a segment outside its group")
        if segment.group is None and (segment.start or segment.repeat != 1):
            raise FormatError(f"symmetry of {name}: a fixed segment has a start or a repeat")
    if length(axis) > MAX_LENGTH:
        raise FormatError(f"symmetry of {name}: an axis of more than {MAX_LENGTH} positions")
    if len(axis) == 1 and (axis[0].group is None or axis[0].count == groups[axis[0].group].size):
        return
    owners, channels = expand(axis)
    for group in np.unique(owners[owners >= 0]):
        times = np.bincount(channels[owners == group], minlength=groups[int(group)].size)
        if np.any(times != times[0]):
            raise FormatError(f"symmetry of {name}: group {group} does not cover its channels evenly")


def _size(name: str, group: int, groups: Sequence[Group]) -> int:
    if not 0 <= group < len(groups):
        raise FormatError(f"symmetry of {name}: no group number {group}")
    return groups[group].size


def _to_list(segment: Segment) -> list[int | None]:
    return [segment.group, segment.start, segment.count, segment.repeat]


def _norm_to_json(norm: Norm) -> dict[str, object]:
    return {
        "mean": norm.mean,
        "variance": norm.variance,
        "scale": norm.scale,
        "shift": norm.shift,
        "epsilon": norm.epsilon,
    }


def _object(value: object, where: str, keys: set[str]) -> dict[str, object]:
    if not isinstance(value, dict) or set(value) != keys:
        raise FormatError(f"symmetry, {where}: expected an object with exactly {', '.join(sorted(keys))}")
    return value


def _list(value: object, where: str, limit: int) -> list[object]:
    if not isinstance(value, list) or len(value) > limit:
        raise FormatError(f"symmetry, {where}: expected a list of at most {limit} entries")
    return value


def _integer(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_LENGTH:
        raise FormatError(f"symmetry, {where}: expected an integer from 0 to {MAX_LENGTH}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise FormatError(f"symmetry, {where}: expected printable text of 1 to {MAX_TEXT} characters")
    return value


def _insert(table: dict[str, T], name: object, value: T, where: str) -> None:
    key = _text(name, where)
    if key in table:
        raise FormatError(f"symmetry, {where}: {key} appears twice")
    table[key] = value


def _group(value: object) -> Group:
    entry = _object(value, "groups", {"size", "scalable"})
    size, scalable = _integer(entry["size"], "groups"), entry["scalable"]
    if size < 1 or not isinstance(scalable, bool):
        raise FormatError("symmetry, groups: a group needs a size of at least 1 and `scalable` true or false")
    return Group(size=size, scalable=scalable)


def _axis(value: object) -> Axis | None:
    if value is None:
        return None
    segments = []
    for item in _list(value, "axes", MAX_SEGMENTS):
        numbers = _list(item, "axes", 4)
        if len(numbers) != 4:
            raise FormatError("symmetry, axes: a segment is [group, start, count, repeat]")
        group = None if numbers[0] is None else _integer(numbers[0], "axes")
        start, count, repeat = (_integer(number, "axes") for number in numbers[1:])
        segments.append(Segment(group=group, start=start, count=count, repeat=repeat))
    return tuple(segments)


def _norm(entry: Mapping[str, object]) -> Norm:
    epsilon = entry["epsilon"]
    if not isinstance(epsilon, int | float) or isinstance(epsilon, bool) or not 0 <= epsilon <= 1:
        raise FormatError("symmetry, norms: epsilon must be a number from 0 to 1")
    optional = {key: None if entry[key] is None else _text(entry[key], "norms") for key in ("scale", "shift")}
    return Norm(
        mean=_text(entry["mean"], "norms"),
        variance=_text(entry["variance"], "norms"),
        epsilon=float(epsilon),
        **optional,
    )
