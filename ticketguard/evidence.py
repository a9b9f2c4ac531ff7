"""Evidence, the decision rule and the verdict (docs/protocol.md, Decision).

`E = -log2 p` of every test in the registered plan is compared with a bar that pays for the number of tests, for the
number of suspects scanned, and for what a claimant could have gained by searching for a lucky secret. A match means
"not independent of the registered secret", and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import inf, isfinite, log2, nextafter
from typing import Any, Literal

from ticketguard.errors import FormatError, UsageError

Decision = Literal["MATCH", "NO MATCH", "INCONCLUSIVE"]
FORMAT = 1
# A note that begins so says what part of a suspect was not tested. No suspect is cleared by what was not looked at.
UNREAD = "not read: "
TESTS = ("support", "magnitude", "squared-magnitude", "triggers")
# The views in every plan. Kernels may be turned besides, at a charge that M has room for: see `verify.verifier`.
VIEWS = ("stored", "aligned")
TURNED = "turned"
CAVEAT = (
    "A match says that the suspect is not independent of the registered secret; "
    "lawful or unwitting access is not excluded."
)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The outcome of one test.

    `test`: one of `TESTS`; `scope`: "pooled" or "leaf 0" ...; `view`: "stored", "aligned" or "turned"; `n`:
    carriers or triggers read; `matches`: those that agree with the secret; `log2_p`: upper bound on the base-2
    logarithm of the p-value, any charge for a search included; `capacity_bits`: the evidence had all n agreed;
    `erasures`: carriers or triggers that could not be read; `null`: the null hypothesis in words.
    """

    test: str
    scope: str
    view: str
    n: int
    matches: int
    log2_p: float
    capacity_bits: float
    erasures: int
    null: str

    def __post_init__(self) -> None:
        if self.test not in TESTS or self.view not in (*VIEWS, TURNED):
            raise UsageError(f"evidence: no test {self.test!r} in view {self.view!r}")
        if not 0 <= self.matches <= self.n or self.erasures < 0:
            raise UsageError(f"evidence: {self.matches} matches of {self.n} with {self.erasures} erasures")
        if not (
            isfinite(self.log2_p) and self.log2_p <= 0 and isfinite(self.capacity_bits) and self.capacity_bits >= 0
        ):
            raise UsageError("evidence: log2 p must be finite and at most 0, the capacity finite and not negative")

    @property
    def bits(self) -> float:
        """E = -log2 p."""
        return 0.0 - self.log2_p


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The registered decision rule: `tests` in the plan (M), `suspects` in this scan, and bits.

    `grinding_bits`: allowance g for a claimant who searched; `threshold_bits`: what a match needs beyond all
    allowances; `chance_bits`: below this, corrected for the number of tests, a test is at chance.
    """

    tests: int = 64
    suspects: int = 1
    grinding_bits: float = 80.0
    threshold_bits: float = 40.0
    chance_bits: float = 20.0

    def __post_init__(self) -> None:
        bits = (self.grinding_bits, self.threshold_bits, self.chance_bits)
        if min(self.tests, self.suspects) < 1 or not all(isfinite(value) and value >= 0 for value in bits):
            raise UsageError("rule: tests and suspects count from 1, and bits are finite and not negative")
        if self.chance_bits > self.threshold_bits + self.grinding_bits:
            raise UsageError("rule: a test at chance could be a match")

    @property
    def multiplicity_bits(self) -> float:
        """log2 of the number of tests over all suspects, rounded up."""
        count = self.tests * self.suspects
        return log2(count) if count & (count - 1) == 0 else nextafter(log2(count), inf)

    @property
    def bar_bits(self) -> float:
        """E that a single test needs for a match: 126 by default, 66 with a beacon."""
        return self.multiplicity_bits + self.grinding_bits + self.threshold_bits


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A decision with every number that is needed to recompute it.

    `reason`: one sentence; `evidence`: every test, passed or not; `notes`: what a reader should know about the reading
    (alignment undone, layers missing, ...); `supplied_by`: who supplied the suspect or the predictions; `context`: plain
    JSON about what was judged (digests, file names).
    Law: `Verdict.from_json(v.to_json()) == v`.
    """

    decision: Decision
    reason: str
    rule: Rule
    evidence: tuple[Evidence, ...]
    notes: tuple[str, ...] = ()
    supplied_by: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def readable(self) -> bool:
        """Something in the suspect could be compared."""
        return _readable(self.evidence)

    @property
    def best(self) -> Evidence | None:
        """The test with the smallest p; the earliest one of equals; None when there was nothing to test."""
        return max(self.evidence, key=lambda item: item.bits, default=None)

    @property
    def against_chance_bits(self) -> float:
        """Evidence of the best test against chance, corrected for the number of tests and suspects; at least 0."""
        return max(0.0, self.best.bits - self.rule.multiplicity_bits) if self.best else 0.0

    @property
    def against_search_bits(self) -> float:
        """The same against a claimant who searched: the grinding allowance taken off as well; at least 0."""
        return max(0.0, self.best.bits - self.rule.multiplicity_bits - self.rule.grinding_bits) if self.best else 0.0

    @property
    def bar_bits(self) -> float:
        """E that the best test had to reach for a match."""
        return self.rule.bar_bits

    @property
    def caveat(self) -> str:
        """What has to be printed beside the decision: never empty for a match."""
        return CAVEAT if self.decision == "MATCH" else ""

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain JSON values; derived numbers are included for readers and ignored by `from_json`."""
        return {
            "format": FORMAT,
            "decision": self.decision,
            "reason": self.reason,
            "rule": asdict(self.rule),
            "barBits": self.bar_bits,
            "againstChanceBits": self.against_chance_bits,
            "againstSearchBits": self.against_search_bits,
            "evidence": [{**asdict(item), "bits": item.bits} for item in self.evidence],
            "readable": self.readable,
            "notes": list(self.notes),
            "suppliedBy": self.supplied_by,
            "context": dict(self.context),
            "caveat": self.caveat,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Verdict:
        """Read `to_json`. Raises `FormatError` when a field is missing or the numbers do not give the decision."""
        try:
            if data["format"] != FORMAT:
                raise FormatError(f"verdict: format {ascii(data['format'])[:40]} is not known to this version")
            verdict = decide(
                [Evidence(**{item.name: row[item.name] for item in fields(Evidence)}) for row in data["evidence"]],
                Rule(**data["rule"]),
                notes=tuple(data["notes"]),
                supplied_by=data["suppliedBy"],
                context=data["context"],
            )
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as problem:
            raise FormatError(f"verdict: field missing or malformed ({type(problem).__name__}: {problem})") from problem
        if verdict.readable is not data.get("readable"):
            raise FormatError("verdict: `readable` says something else than the tests do")
        if verdict.decision != data.get("decision") or verdict.reason != data.get("reason"):
            raise FormatError(
                f"verdict: the numbers say {verdict.decision}, the document {ascii(data.get('decision'))[:40]}"
            )
        return verdict


def decide(
    evidence: Sequence[Evidence],
    rule: Rule,
    *,
    notes: tuple[str, ...] = (),
    supplied_by: str = "",
    context: Mapping[str, Any] | None = None,
) -> Verdict:
    """Apply the rule: the minimum p times the number of tests, never a sum of bits.

    MATCH: some test has E >= `rule.bar_bits`. NO MATCH: all tests are at chance, although one of them could have
    passed had its carriers matched, and no note begins with `UNREAD`. INCONCLUSIVE: anything else, nothing
    comparable included.
    """
    decision, reason = _judge(evidence, rule, whole=not any(note.startswith(UNREAD) for note in notes))
    return Verdict(
        decision=decision,
        reason=reason,
        rule=rule,
        evidence=tuple(evidence),
        notes=notes,
        supplied_by=supplied_by,
        context=dict(context or {}),
    )


def _readable(evidence: Sequence[Evidence]) -> bool:
    return any(item.n > 0 for item in evidence)


def _judge(evidence: Sequence[Evidence], rule: Rule, *, whole: bool) -> tuple[Decision, str]:
    if not _readable(evidence):
        return "INCONCLUSIVE", "nothing comparable: no registered carrier or trigger could be read in the suspect"
    best = max(evidence, key=lambda item: item.bits)
    against_chance = best.bits - rule.multiplicity_bits
    if best.bits >= rule.bar_bits:
        return "MATCH", (
            f"{best.matches} of {best.n} match in the {best.test} test ({best.scope}, {best.view}): "
            f"{best.bits:.1f} bits, the bar is {rule.bar_bits:.1f}"
        )
    if against_chance >= rule.chance_bits:
        return "INCONCLUSIVE", (
            f"significant against chance ({against_chance:.1f} bits) but not against a claimant who searched: the best "
            f"test gives {best.bits:.1f} bits, the bar is {rule.bar_bits:.1f}"
        )
    capacity = max(item.capacity_bits for item in evidence)
    if capacity < rule.bar_bits:
        return "INCONCLUSIVE", (
            f"too few readable carriers or triggers: had all matched, the evidence would be {capacity:.1f} bits, the bar "
            f"is {rule.bar_bits:.1f}"
        )
    if not whole:
        return "INCONCLUSIVE", (
            f"every test is at chance: the best gives {best.bits:.1f} bits; but not everything was looked "
            "at: see the note on what was not read"
        )
    return "NO MATCH", (
        f"every test is at chance: the best gives {best.bits:.1f} bits, and up to {capacity:.1f} bits were possible"
    )
