"""Answers as class indices: names matched with the committed ones, indices, scores, and maps that are paid for
(docs/protocol.md, Tests).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import DataError
from ticketguard.triggers.score import ERASURE, label_map_bits

_INTEGER = re.compile(r"-?[0-9]{1,11}")


@dataclass(frozen=True, kw_only=True)
class Classes:
    """How an answer is read: committed `names` in order, and optionally a one-to-one map of a service's labels to
    them.

    Without a map an answer is a committed name, or an index into them. An index may be written as text only when no
    committed name looks like a number: with classes named "0" to "9" the text "3" is the name. A map names every
    class exactly once; answers outside it are then erasures, and `charge_bits` is its price.
    """

    names: tuple[str, ...]
    label_map: Mapping[str, str] | None = None
    _places: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Backwards: the first of equal names wins.
        places = {name: place for place, name in reversed(list(enumerate(self.names)))}
        object.__setattr__(self, "_places", places)
        if self.label_map is None:
            return
        named = list(self.label_map.values())
        if not all(isinstance(name, str) for name in named) or sorted(named) != sorted(self.names):
            raise DataError("label map: it must name every registered class exactly once")

    def index(self, answer: object, *, where: str) -> int:
        """The class index of one answer (text or integer), -1 for none (None or empty text); or `DataError`."""
        if answer is None or (isinstance(answer, str) and not answer.strip()):
            return ERASURE
        text = answer.strip() if isinstance(answer, str) else answer
        if self.label_map is not None:
            mapped = self.label_map.get(str(text))
            return ERASURE if mapped is None else self._places[mapped]
        number = self.place(text) if isinstance(text, str) else _integer(text)
        if number is None:
            raise DataError(
                f"{where}: unknown class name {str(answer)[:60]!a}: it must be one of the {len(self.names)} registered ones"
            )
        if not 0 <= number < len(self.names):
            raise DataError(f"{where}: label {str(number)[:20]} is out of range: there are {len(self.names)} classes")
        return number

    def place(self, text: str) -> int | None:
        """The index that a text stands for without a map: its name's, else the number itself; None when it is neither.

        A number may be out of range.
        """
        if text in self._places:
            return self._places[text]
        plain = _INTEGER.fullmatch(text) and not any(name.isdigit() for name in self.names)
        return int(text) if plain else None

    def charge_bits(self, answers: Sequence[object]) -> float:
        """What the map costs, given every answer it was applied to: the larger the service's vocabulary, the
        dearer.
        """
        if self.label_map is None:
            return 0.0
        seen = {str(answer).strip() for answer in answers if answer is not None} | set(self.label_map)
        return label_map_bits(len(self.names), len(seen))


def _integer(answer: object) -> int | None:
    return int(answer) if isinstance(answer, int | np.integer) and not isinstance(answer, bool) else None


def integers(answers: object, *, where: str) -> NDArray[np.int64]:
    """Class indices (-1 for none) that a caller gives, a list or an array, as int64. Raises `DataError` for anything else."""
    try:
        array = np.asarray(answers)
    except (ValueError, TypeError) as problem:
        raise DataError(f"{where}: not a list of integers") from problem
    if array.dtype.kind not in "iu" or (array.size and array.max() > np.iinfo(np.int64).max):
        raise DataError(f"{where}: integers are needed, one an answer and -1 for none, not {array.dtype}")
    return array.astype(np.int64)


def best_classes(scores: NDArray[Any], classes: int, *, where: str) -> NDArray[np.int64]:
    """Class of the highest score in every row of a (N, classes) array; -1 for a row with NaN. The first of equals
    wins.
    """
    array = np.asarray(scores)
    if array.ndim != 2 or array.shape[1] != classes or not np.issubdtype(array.dtype, np.number):
        raise DataError(f"{where}: scores must be numbers of shape (N, {classes}), found {array.dtype} {array.shape}")
    if np.iscomplexobj(array):
        raise DataError(f"{where}: scores must be real numbers")
    # Longer floats may overflow, and signalling NaNs are invalid: infinities and NaNs afterwards, which rank as such.
    with np.errstate(over="ignore", invalid="ignore"):
        floats = array.astype(np.float64)
    unknown = np.isnan(floats).any(axis=1)
    return np.where(unknown, ERASURE, np.argmax(floats, axis=1)).astype(np.int64)
