"""Adapters: from a trigger's pixels to what a service takes, in steps that are declared before the first query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import UsageError
from ticketguard.triggers.plan import TriggerPlan

Range = Literal["normalized", "unit", "pixels"]
Layout = Literal["CHW", "HWC", "flat"]
RANGES, LAYOUTS = ("normalized", "unit", "pixels"), ("CHW", "HWC", "flat")
LARGEST_SIDE = 4096


@dataclass(frozen=True, kw_only=True)
class Input:
    """How a service wants one image.

    `range`: "pixels" 0..255, "unit" 0..1, or "normalized" with the registered mean and standard deviation; `layout`:
    order of the axes; `size`: (height, width) to resize to by nearest neighbour, None to keep; `channels`: 3 to
    repeat a grey image, None to keep. What is registered in `preprocess["input"]` comes first.
    """

    range: Range = "normalized"
    layout: Layout = "CHW"
    size: tuple[int, int] | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        if self.range not in RANGES or self.layout not in LAYOUTS:
            raise UsageError(f"service input: range is one of {', '.join(RANGES)}, layout one of {', '.join(LAYOUTS)}")
        if self.size is not None and not _are_sides(self.size):
            raise UsageError(f"service input: the size is two integers up to {LARGEST_SIDE}")
        # By type first: 3.0 and True are equal to integers, and fit no shape.
        if self.channels is not None and (type(self.channels) is not int or self.channels not in (1, 3)):
            raise UsageError("service input: channels are 1 or 3")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for the transcript."""
        return {**asdict(self), "size": None if self.size is None else list(self.size)}


def _are_sides(size: object) -> bool:
    if not isinstance(size, tuple | list) or len(size) != 2:
        return False
    return all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in size)


def input_of(plan: TriggerPlan, given: Mapping[str, Any] | None = None) -> Input:
    """The service input: registered fields, then those of `given`. Defaults to normalized when mean and std are
    registered.
    """
    fields: dict[str, Any] = {"range": "normalized" if _moments(plan) else "unit"}
    for source in (plan.preprocess.get("input"), given):
        if source is None:
            continue
        unknown = set(source) - {"range", "layout", "size", "channels"} if isinstance(source, Mapping) else {"input"}
        if unknown:
            raise UsageError(f"service input: unknown field {sorted(unknown)[0][:60]!a}")
        fields |= source
    if isinstance(fields.get("size"), list):
        fields["size"] = tuple(fields["size"])
    try:
        return Input(**fields)
    except TypeError as problem:
        raise UsageError(f"service input: malformed ({problem})") from problem


def pixels_for(image: NDArray[np.uint8], wanted: Input) -> NDArray[np.uint8]:
    """The resized uint8 image (C, H, W): nearest neighbour in integer arithmetic, grey repeated to three channels."""
    channels, height, width = image.shape
    if wanted.size is not None:
        rows = (np.arange(wanted.size[0]) * 2 + 1) * height // (2 * wanted.size[0])
        columns = (np.arange(wanted.size[1]) * 2 + 1) * width // (2 * wanted.size[1])
        image = image[:, rows[:, None], columns[None, :]]
    if wanted.channels is not None and wanted.channels != channels:
        if channels != 1:
            raise UsageError(f"service input: cannot make {wanted.channels} channels of {channels}")
        image = np.repeat(image, wanted.channels, axis=0)
    return image


def prepare(image: NDArray[np.uint8], wanted: Input, plan: TriggerPlan) -> NDArray[Any]:
    """One uint8 image (C, H, W) as the service wants it, without a batch axis: uint8 for pixels, else float32."""
    array: NDArray[Any] = pixels_for(image, wanted)
    if wanted.range != "pixels":
        array = array.astype(np.float32) / np.float32(255)
    if wanted.range == "normalized":
        moments = _moments(plan)
        if moments is None:
            raise UsageError("service input: no mean and std are registered, so nothing can be normalized")
        mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in moments)
        array = (array - mean) / std
    if wanted.layout == "HWC":
        array = array.transpose(1, 2, 0)
    return np.ascontiguousarray(array.ravel() if wanted.layout == "flat" else array)


def _moments(plan: TriggerPlan) -> tuple[list[float], list[float]] | None:
    """Registered mean and std, one entry a channel or a single one for all."""
    mean, std = plan.preprocess.get("mean"), plan.preprocess.get("std")
    if not mean or not std or 0 in std or any(len(values) not in (1, plan.shape[0]) for values in (mean, std)):
        return None
    return list(mean), list(std)
