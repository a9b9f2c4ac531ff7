"""Data sets as values: whole image sets in memory, from official file layouts, under literal names."""

from __future__ import annotations

from ticketguard.data.dataset import Dataset
from ticketguard.data.registry import DATASETS, load

__all__ = ["DATASETS", "Dataset", "load"]
