"""The finished steps of `reproduce.py`, asked by what they measured, and how their numbers are printed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

TEXT = "0123456789ab"
# Key of a step -> how the QR code was read.
READINGS = {
    "text": "paper's reading",
    "defended": "with the owner's threshold",
    "thick": "read-qr: 1, 2, 3 edges",
}

Step = dict[str, Any]


class Steps:
    """Every step that ran. `wanted` arguments select steps whose values equal theirs."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.all = list(steps)

    def where(self, **wanted: Any) -> list[Step]:
        """The steps themselves."""
        return [step for step in self.all if all(step.get(name) == value for name, value in wanted.items())]

    def pick(self, key: str, **wanted: Any) -> list[Any]:
        """One value of each selected step that has it."""
        return [step[key] for step in self.where(**wanted) if key in step]

    def by_seed(self, key: str, **wanted: Any) -> dict[int, float]:
        """The same, by seed."""
        return {step["seed"]: step[key] for step in self.where(**wanted) if key in step}

    def values(self, key: str, **wanted: Any) -> list[Any]:
        """Different values: numbers ascending, names in the order in which they first ran."""
        found = list(dict.fromkeys(self.pick(key, **wanted)))
        return found if any(isinstance(value, str) for value in found) else sorted(found)

    def clean(self, variant: str, key: str = "accuracy") -> list[Any]:
        """One value of a variant before any attack."""
        return self.pick(key, kind="attack", attack="clean", variant=variant)

    def losses(self, base: dict[int, float], key: str, **wanted: Any) -> list[float]:
        """Points lost, one for each seed that both have: a seed's own baseline, not the mean of others."""
        found = self.by_seed(key, **wanted)
        return [base[seed] - found[seed] for seed in sorted(set(base) & set(found))]


def number(values: Sequence[float], digits: int = 2, sign: str = "") -> str:
    """Mean, standard deviation where there are two or more values, and how many there are."""
    if not values:
        return "not run"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):{sign}.{digits}f}{spread} ({len(values)})"


def rows(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    head = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*head, *("| " + " | ".join(line) + " |" for line in lines)])


def least_costly(losses: dict[float, list[float]]) -> str:
    """The smallest measured key-mask size whose mean loss is a point or more, with that loss."""
    costs = [share for share, lost in losses.items() if lost and mean(lost) >= 1]
    if costs:
        return f"{100 * min(costs):g} %: {number(losses[min(costs)], sign='+')}"
    return "none of these" if any(losses.values()) else "not run"
