"""Checkpoints in the layout of the paper's authors (VITA-Group/NO-stealing-LTH) as tickets and models.

Such a checkpoint holds `state_dict` (masked layers as `<layer>.weight_orig` and `<layer>.weight_mask`, the input's
normalization as `normalize.mean` and `normalize.std`) and `init_weight`, the weights that the ticket rewinds to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import FormatError
from ticketguard.models import build, input_shape
from ticketguard.tickets import MASK_SUFFIX, Architecture, Model, Ticket, Weights, ticket_from_tensors
from ticketguard.training import weights_of

STATE, REWIND = "state_dict.", "init_weight."
NORMALIZATION = ("normalize.mean", "normalize.std")
PARALLEL = "module."


def convert(tensors: Weights, *, where: str, arch: str | None = None, trained: bool = False) -> Ticket:
    """The ticket of a checkpoint (its rewind weights under its masks), or with `trained` its trained model.

    `tensors` are the checkpoint's under dotted names (`storage.torchfile.read_torch(path, whole=True)`); a bare state dict has
    no rewind weights and gives a model. With `arch`, parameters take that network's names: by name where they agree, else in
    order, shapes checked. Raises `FormatError` for anything that is not this layout.
    """
    state = _part(tensors, STATE) or dict(tensors)
    rewind = _part(tensors, REWIND)
    if not any(name.endswith(MASK_SUFFIX) for name in state):
        raise FormatError(f"{where}: no <layer>.weight_mask in it, so this is no sparse checkpoint of that layout")
    found = ticket_from_tensors({n: a for n, a in state.items() if n not in NORMALIZATION}, None, where=where)
    provenance: dict[str, Any] = {"finder": "converted", "source": "NO-stealing-LTH layout"}
    weights, use_rewind = dict(found.weights), bool(rewind) and not trained
    if use_rewind:
        weights = _rewound(found, rewind, where)
    ticket = replace(found, weights=weights, provenance=provenance)
    if arch is not None:
        ticket = _renamed(ticket, Architecture(name=arch), where)
        provenance |= _input(state, ticket.architecture)
    fields = {name: getattr(ticket, name) for name in ("architecture", "weights", "mask", "provenance")}
    return Ticket(**fields) if use_rewind else Model(**fields)


def _part(tensors: Weights, prefix: str) -> dict[str, NDArray[Any]]:
    """The tensors under a prefix, DataParallel's own prefix dropped."""
    return {
        name.removeprefix(prefix).removeprefix(PARALLEL): np.asarray(array)
        for name, array in tensors.items()
        if name.startswith(prefix)
    }


def _rewound(found: Ticket, rewind: Weights, where: str) -> dict[str, NDArray[Any]]:
    """Rewind weights under the masks; what the checkpoint does not rewind keeps its value."""
    weights = dict(found.weights)
    for name, array in weights.items():
        # The authors saved initial weights before or after pruning was installed, which renames them.
        start = next((rewind[key] for key in (name, name + "_orig") if key in rewind), None)
        if start is None:
            continue
        if np.shape(start) != np.shape(array):
            raise FormatError(
                f"{where}: init_weight of {name} has shape {np.shape(start)}, the layer {np.shape(array)}"
            )
        kept = found.mask.get(name)
        weights[name] = np.asarray(start) if kept is None else np.where(kept, start, 0).astype(start.dtype)
    missing = [name for name in found.mask if name not in rewind and name + "_orig" not in rewind]
    if missing:
        raise FormatError(f"{where}: init_weight lacks {missing[0]}: without rewind weights use --trained")
    return weights


def _renamed(ticket: Ticket, architecture: Architecture, where: str) -> Ticket:
    """The ticket under the names of a network of ours."""
    expected = {name: np.shape(array) for name, array in weights_of(build(_classes(ticket, architecture))).items()}
    given = {name: np.shape(array) for name, array in ticket.weights.items()}
    if expected == given:
        names = {name: name for name in given}
    else:
        ours, theirs = list(expected.items()), list(given.items())
        if len(ours) != len(theirs) or any(a[1] != b[1] for a, b in zip(ours, theirs, strict=False)):
            odd = next(((a, b) for a, b in zip(ours, theirs, strict=False) if a[1] != b[1]), None)
            said = (
                f"{odd[1][0]} is {odd[1][1]}, {odd[0][0]} is {odd[0][1]}"
                if odd
                else f"{len(theirs)} tensors, not {len(ours)}"
            )
            raise FormatError(
                f"{where}: not a {architecture.name}: {said}; leave --arch out to keep the checkpoint's names"
            )
        names = {theirs_name: ours_name for (ours_name, _), (theirs_name, _) in zip(ours, theirs, strict=True)}
    return replace(
        ticket,
        architecture=_classes(ticket, architecture),
        weights={names[name]: array for name, array in ticket.weights.items()},
        mask=replace(ticket.mask, layers={names[name]: bits for name, bits in ticket.mask.items()}),
    )


def _classes(ticket: Ticket, architecture: Architecture) -> Architecture:
    """The architecture with the checkpoint's number of classes: the rows of its last matrix."""
    matrices = [np.shape(array) for array in ticket.weights.values() if np.ndim(array) == 2]
    return replace(architecture, arguments={"classes": int(matrices[-1][0])}) if matrices else architecture


def _input(state: Mapping[str, NDArray[Any]], architecture: Architecture) -> dict[str, Any]:
    """The input as `find` notes it, from the normalization layer."""
    if not all(name in state for name in NORMALIZATION):
        return {}
    mean, std = ([round(float(value), 6) for value in np.ravel(state[name])] for name in NORMALIZATION)
    return {"input": {"shape": list(input_shape(architecture)), "mean": mean, "std": std}}
