"""Tickets and models: the values that travel between finding, signing, training and verifying, and their files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError
from ticketguard.masks import Mask, StoredMask
from ticketguard.storage.hostile import visible
from ticketguard.storage.tensors import Computed, TensorFile, TensorInfo, info_of, read_tensors, write_tensors

FORMAT = 1
MASK_SUFFIX = "_mask"
# Values in one input: what a stranger's ticket may make us allocate.
MOST_INPUT = 1 << 26
Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How to build the network: a registry name or an import path `package.module:callable`, and its JSON arguments.

    `name` is None for a network that nobody can build from its file: everything but alignment still works for it.
    """

    name: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Ticket:
    """A sparse network before training: architecture, rewind weights and buffers, masks, provenance.

    `weights` maps PyTorch state-dict names to numpy arrays; pruned positions are exact zero. `provenance` is JSON:
    finder, rounds, rewind epoch, seeds, data set name and digest. Two tickets are equal when they are the same object.
    """

    architecture: Architecture
    weights: Weights
    mask: Mask
    provenance: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "ticket"

    def __post_init__(self) -> None:
        if isinstance(self.mask, StoredMask):
            # Made from a file layer by layer, where pruned positions are made zero.
            return
        for name, bits in self.mask.items():
            if name not in self.weights:
                raise FormatError(f"mask of {name}: no parameter of that name")
            if np.shape(self.weights[name]) != bits.shape:
                raise FormatError(f"mask of {name}: shape {bits.shape}, parameter {np.shape(self.weights[name])}")
            if np.any(np.asarray(self.weights[name])[~bits]):
                raise FormatError(f"{name}: a pruned position is not exactly zero")

    def __repr__(self) -> str:
        network = visible(self.architecture.name or "unknown architecture", most=80)
        return f"{type(self).__name__}({network}, {len(self.weights)} tensors, {self.mask!r})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Model(Ticket):
    """A trained ticket: the same fields, with trained weights."""

    kind: str = "model"


def write_ticket(path: Path, ticket: Ticket) -> None:
    """Write a ticket or model as safetensors: parameters by name, masks as U8 under `<parameter>_mask`, JSON metadata."""
    infos = {name: _info(ticket.weights, name) for name in ticket.weights}
    bases = {name + MASK_SUFFIX: name for name in ticket.mask}
    infos |= {key: TensorInfo(dtype="U8", shape=infos[name].shape) for key, name in bases.items()}

    def make(key: str) -> NDArray[Any]:
        return ticket.mask[bases[key]].view(np.uint8) if key in bases else np.asarray(ticket.weights[key])

    metadata = {
        "format": FORMAT,
        "kind": ticket.kind,
        "architecture": {"name": ticket.architecture.name, "arguments": dict(ticket.architecture.arguments)},
        "masked": list(ticket.mask),
        "sparsity": round(ticket.mask.sparsity, 6),
        "provenance": dict(ticket.provenance),
    }
    write_tensors(path, Computed(infos, make), {"ticketguard": metadata})


def _info(tensors: Weights, name: str) -> TensorInfo:
    # Not of any file: what numpy lacks is read, and so written, as float32.
    return tensors.info(name) if isinstance(tensors, Computed) else info_of(tensors[name])


def read_ticket(path: Path) -> Ticket:
    """Read a file of `write_ticket`, or a plain state dict with masks (architecture unknown).

    Returns a `Model` when the metadata says so, else a `Ticket`. Masks are `<parameter>_mask` tensors; a parameter stored as
    `<parameter>_orig` with `<parameter>_mask` is multiplied out. Raises `FormatError` for anything else.
    """
    file = read_tensors(path)
    tensors = {name: file[name] for name in file}
    return ticket_from_tensors(tensors, file.metadata.get("ticketguard"), where=str(path))


def open_ticket(file: TensorFile, *, where: str) -> Ticket:
    """As `read_ticket`, with weights and masks that are read from `file` each time they are asked for: for large tickets."""
    return ticket_from_tensors(file, file.metadata.get("ticketguard"), where=where)


def ticket_from_tensors(tensors: Weights, metadata: Any, *, where: str) -> Ticket:
    """Build the value from named arrays and the parsed `ticketguard` metadata (None for a foreign file).

    The tensors of a `TensorFile` are read when they are asked for, each time anew.
    """
    meta = metadata if isinstance(metadata, dict) else {}
    if meta and meta.get("format") != FORMAT:
        raise FormatError(f"{where}: ticket format {ascii(meta.get('format'))[:40]} is not known to this version")
    sources, masks = _sources(tensors)
    for name, key in masks.items():
        if name not in sources:
            # `<p>_orig` with both `<p>_mask` and `<p>_orig_mask`: the parameter can have only one of its two names.
            raise FormatError(f"{where}: {key} is the mask of no parameter, because {name} has another mask as well")
        if shape_of(tensors, key) != shape_of(tensors, sources[name]):
            raise FormatError(
                f"{where}: mask of {name} has shape {shape_of(tensors, key)}, the parameter {shape_of(tensors, sources[name])}"
            )

    def kept(name: str) -> NDArray[np.bool_]:
        return np.asarray(tensors[masks[name]] != 0)

    def value(name: str) -> NDArray[Any]:
        array = np.asarray(tensors[sources[name]])
        return np.where(kept(name), array, np.zeros((), dtype=array.dtype)) if name in masks else array

    order = meta.get("masked", list(masks))
    if (
        not isinstance(order, list)
        or not all(isinstance(name, str) for name in order)
        or sorted(order) != sorted(masks)
    ):
        raise FormatError(f"{where}: the metadata names other masks than the file holds")
    fields: dict[str, Any] = {
        "architecture": _architecture(meta.get("architecture") or {}, where),
        **_contents(tensors, sources, order, value, kept),
        "provenance": _object(meta.get("provenance") or {}, "provenance", where),
    }
    return Model(**fields) if meta.get("kind") == "model" else Ticket(**fields)


def _sources(tensors: Weights) -> tuple[dict[str, str], dict[str, str]]:
    """Stored name of every parameter and buffer, and of every mask, by parameter name."""
    weights, masks = {}, {}
    for name in tensors:
        base = name.removesuffix(MASK_SUFFIX)
        if base != name and (base in tensors or base + "_orig" in tensors):
            masks[base] = name
        else:
            plain = name.removesuffix("_orig")
            weights[plain if plain + MASK_SUFFIX in tensors else name] = name
    return weights, masks


def _contents(
    tensors: Weights,
    sources: Mapping[str, str],
    order: list[str],
    value: Callable[[str], NDArray[Any]],
    kept: Callable[[str], NDArray[np.bool_]],
) -> dict[str, Any]:
    """Weights and mask: read now, or each time they are asked for when they lie in a file."""
    if not isinstance(tensors, TensorFile):
        return {"weights": {name: value(name) for name in sources}, "mask": Mask({name: kept(name) for name in order})}
    infos = {name: tensors.info(key) for name, key in sources.items()}
    # Numpy lacks the small float types: such tensors are read, and so written, as float32.
    infos = {
        name: TensorInfo(dtype="F32", shape=info.shape) if info.dtype.startswith(("BF16", "F8_")) else info
        for name, info in infos.items()
    }
    masks = {name: TensorInfo(dtype="BOOL", shape=infos[name].shape) for name in order}
    return {"weights": Computed(infos, value), "mask": StoredMask(Computed(masks, kept))}


def shape_of(tensors: Weights, name: str) -> tuple[int, ...]:
    """The shape of a tensor; one in a file is not read for it."""
    return tuple(tensors.info(name).shape) if isinstance(tensors, TensorFile) else np.shape(tensors[name])


def _architecture(described: Any, where: str) -> Architecture:
    fields = _object(described, "architecture", where)
    name = fields.get("name")
    if name is not None and not isinstance(name, str):
        raise FormatError(f"{where}: the metadata's architecture has no text for a name")
    arguments = _object(fields.get("arguments") or {}, "architecture arguments", where)
    return Architecture(name=name, arguments=arguments)


def _object(value: Any, what: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{where}: the metadata's {what} is not a JSON object")
    return value


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a ticket's provenance says about its task: image `shape` (C, H, W), `classes` in order, `mean` and `std`.

    `classes` is empty when the provenance names none; mean and standard deviation are per channel, of pixels in [0, 1].
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def task_of(ticket: Ticket) -> Task | None:
    """The task of a ticket; None when its provenance describes no input. Raises `FormatError` for a malformed one."""
    described, classes = ticket.provenance.get("input"), ticket.provenance.get("classes") or []
    if described is None:
        return None
    fields = _object(described, "input", "provenance")
    shape, mean, std = fields.get("shape"), fields.get("mean"), fields.get("std")
    if not _sizes(shape) or not _numbers(mean) or not _numbers(std):
        raise FormatError("provenance: the input has no possible shape (C, H, W), or no mean and std per channel")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise FormatError("provenance: classes are not a list of names")
    return Task(shape=(shape[0], shape[1], shape[2]), classes=tuple(classes), mean=tuple(mean), std=tuple(std))


def _sizes(values: Any) -> TypeGuard[list[int]]:
    if not isinstance(values, list) or len(values) != 3 or not all(type(size) is int and size > 0 for size in values):
        return False
    return prod(values) <= MOST_INPUT


def _numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(
        type(value) in (int, float) and abs(value) <= sys.float_info.max for value in values
    )


def trained(ticket: Ticket, weights: Weights, provenance: Mapping[str, Any]) -> Model:
    """The model of a ticket: its architecture and masks with trained `weights`."""
    return Model(
        architecture=ticket.architecture,
        weights=weights,
        mask=ticket.mask,
        provenance={**ticket.provenance, **provenance},
    )


__all__ = [
    "Architecture",
    "Model",
    "Task",
    "Ticket",
    "open_ticket",
    "read_ticket",
    "shape_of",
    "task_of",
    "trained",
    "write_ticket",
]
