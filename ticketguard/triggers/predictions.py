"""Predictions files: what somebody's model answered to the triggers, as CSV, NumPy or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ticketguard.errors import DataError
from ticketguard.storage.documents import read_csv, read_json, read_npy
from ticketguard.triggers.labels import Classes, best_classes
from ticketguard.triggers.plan import TriggerPlan
from ticketguard.triggers.score import ERASURE

FILE_LIMIT = 256 << 20
COLUMNS = ["index", "label"]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """`labels`: int64 in pooled trigger order, -1 for no answer; `charge_bits`: what a label map costs, 0 without
    one.
    """

    labels: NDArray[np.int64]
    charge_bits: float = 0.0


def read_predictions(path: Path, plan: TriggerPlan, *, label_map: Mapping[str, str] | None = None) -> Predictions:
    """Labels of a predictions file in pooled trigger order, `plan.total` of them.

    `.csv`: a header `index,label`, then one line an answer; a label is a registered class name or a class index;
    indices that are missing and labels that are empty are erasures. `.npy`: integers (N,) or scores (N, C).
    `.json`: a list of N names, indices or nulls, or of N lists of C scores. A row of scores with NaN is an erasure.
    `label_map`: a one-to-one map from a service's labels to the registered classes, which has its price. Raises
    `DataError` for unknown names, labels or indices out of range, repeated indices, an empty file or a wrong number of
    answers.
    """
    classes = Classes(names=plan.classes, label_map=label_map)
    readers = {".csv": _read_csv, ".npy": _read_npy, ".json": _read_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: predictions are .csv, .npy or .json files")
    return reader(path, plan, classes)


def _read_csv(path: Path, plan: TriggerPlan, classes: Classes) -> Predictions:
    rows = read_csv(path, limit=FILE_LIMIT)
    if [cell.strip().lower() for cell in rows[0]] != COLUMNS:
        raise DataError(f"{path}: the first line must be index,label")
    if len(rows) == 1:
        raise DataError(f"{path}: no predictions in it")
    labels = np.full(plan.total, ERASURE, dtype=np.int64)
    seen: set[int] = set()
    for row in rows[1:]:
        where = f"{path}, line of index {row[0][:20]!a}"
        index = int(row[0]) if row[0].strip().isascii() and row[0].strip().isdigit() and len(row[0]) < 12 else -1
        if not 0 <= index < plan.total or index in seen:
            raise DataError(f"{where}: an index must be a number from 0 to {plan.total - 1}, and not occur twice")
        seen.add(index)
        labels[index] = classes.index(row[1], where=where)
    return Predictions(labels=labels, charge_bits=classes.charge_bits([row[1] for row in rows[1:]]))


def _read_npy(path: Path, plan: TriggerPlan, classes: Classes) -> Predictions:
    array = read_npy(path, limit=FILE_LIMIT)
    _check_length(len(array) if array.ndim else 0, plan, path)
    if array.ndim == 2:
        return Predictions(labels=best_classes(array, len(plan.classes), where=str(path)))
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"{path}: integer labels (N,) or scores (N, C), not {array.dtype} {array.shape}")
    return _from_list(array.tolist(), classes, path)


def _read_json(path: Path, plan: TriggerPlan, classes: Classes) -> Predictions:
    answers = read_json(path, limit=FILE_LIMIT)
    if not isinstance(answers, list):
        raise DataError(f"{path}: a JSON list is expected")
    _check_length(len(answers), plan, path)
    if not isinstance(answers[0], list):
        return _from_list(answers, classes, path)
    width = len(plan.classes)
    if not all(isinstance(row, list) and len(row) == width and all(map(_is_score, row)) for row in answers):
        raise DataError(f"{path}: every list of scores must hold {width} numbers")
    return Predictions(labels=best_classes(np.array(answers, dtype=np.float64), width, where=str(path)))


def _from_list(answers: list[object], classes: Classes, path: Path) -> Predictions:
    labels = [
        ERASURE if type(answer) is int and answer == ERASURE else classes.index(answer, where=f"{path}, entry {number}")
        for number, answer in enumerate(answers)
    ]
    return Predictions(labels=np.array(labels, dtype=np.int64), charge_bits=classes.charge_bits(answers))


def _is_score(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300)


def _check_length(found: int, plan: TriggerPlan, path: Path) -> None:
    if found != plan.total:
        raise DataError(f"{path}: {found} predictions, expected one for each of the {plan.total} triggers")
