"""Judging a probe: the recorded answers, in the schedule's order, become evidence and a verdict."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from typing import Any

from ticketguard.claims.opening import Opening
from ticketguard.errors import AuthenticityError, FormatError, UsageError
from ticketguard.evidence import Evidence, Verdict, decide
from ticketguard.probe.schedule import Parameters, Schedule, make_schedule, one_leaf
from ticketguard.probe.sequential import TWO_LOOKS_BITS, Progress
from ticketguard.probe.transcript import Recorded, Transcript
from ticketguard.triggers.plan import required_plan
from ticketguard.triggers.render import Images
from ticketguard.triggers.score import label_map_bits

REACHED, HOPELESS = "the bar is reached", "the bar cannot be reached any more"
NULL = (
    "the answers are independent of the secret labels: each matches with probability 1/{classes}; likelihood-ratio "
    "martingale, valid under any stopping (Ville), one bit for the better of it and the complete test{charged}"
)


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Where a probe stands: the sequential test over the triggers resolved so far, in order.

    `resolved`: triggers whose every copy is done, erasures included; `total`: triggers in the schedule;
    `inconsistent`: images that got different answers; `charge_bits`: price of a label map.
    """

    progress: Progress
    resolved: int
    total: int
    inconsistent: int
    charge_bits: float = 0.0

    @property
    def complete(self) -> bool:
        """Every trigger was asked."""
        return self.resolved == self.total

    @property
    def log2_p(self) -> float:
        """Upper bound on log2 p, charges included."""
        return min(0.0, self.progress.log2_p(complete=self.complete) + self.charge_bits)

    def decided(self, bar_bits: float) -> str | None:
        """Why to stop: the bar is reached, or cannot be any more; None to go on."""
        bar = bar_bits + self.charge_bits
        if self.progress.passes(bar):
            return REACHED
        if not self.progress.can_pass(bar, self.total - self.resolved):
            return HOPELESS
        return None


def tally(
    schedule: Schedule,
    answers: Mapping[int, Recorded],
    interrupted: list[int],
    *,
    label_map: Mapping[str, str] | None,
) -> Tally:
    """Follow the test over the longest beginning of the schedule whose triggers are all resolved.

    A trigger is resolved when its last copy is answered or known to be lost, and counted in the order of its last
    copy: a rule that knows no target, like the one for erasures (no answer, or copies that disagree). `label_map` is
    charged here, for the probe that stops and for the judge alike: by the service's vocabulary as far as it showed.
    """
    copies, triggers = schedule.copies, schedule.triggers
    done = answers.keys() | set(interrupted)
    labels = {
        image: {answers[number].label for number in numbers if number in answers} - {None}
        for image, numbers in copies.items()
    }
    unknown = {recorded.unknown for recorded in answers.values()} - {None}
    progress, resolved = Progress(classes=len(schedule.classes)), 0
    for image in triggers:
        if not done.issuperset(copies[image]):
            break
        resolved += 1
        if len(labels[image]) == 1:
            progress = progress.after(labels[image] == {int(schedule.targets[image])})
    return Tally(
        progress=progress,
        resolved=resolved,
        total=len(triggers),
        inconsistent=sum(len(found) > 1 for found in labels.values()),
        charge_bits=0.0 if label_map is None else label_map_bits(len(schedule.classes), len(label_map) + len(unknown)),
    )


def begin_fields(opening: Opening, schedule: Schedule, **declared: Any) -> dict[str, Any]:
    """The first line: everything that is fixed before the first query."""
    return {
        "registration": hashlib.sha256(opening.payload).hexdigest(),
        "beacon": opening.beacon.hex(),
        "scope": schedule.scope,
        "classes": list(schedule.classes),
        "schedule": {
            "salt": schedule.parameters.salt,
            "decoys": schedule.parameters.decoys,
            "repeats": schedule.parameters.repeats,
            "ownDecoys": schedule.parameters.own_decoys,
            "sha256": schedule.digest,
        },
        **declared,
    }


def schedule_of(
    opening: Opening, transcript: Transcript, *, own_images: Images | None = None, own_decoys: Images | None = None
) -> tuple[Opening, Schedule]:
    """Make the transcript's schedule again from the opening. Raises `AuthenticityError` when it is not the one
    recorded.
    """
    begin = transcript.begin
    if begin.get("registration") != hashlib.sha256(opening.payload).hexdigest():
        raise AuthenticityError("transcript: it was recorded for another registration")
    try:
        fields, scope = begin["schedule"], begin["scope"]
        parameters = Parameters(
            salt=fields["salt"], decoys=fields["decoys"], repeats=fields["repeats"], own_decoys=fields["ownDecoys"]
        )
        leaf = None if scope == "pooled" else int(scope.removeprefix("leaf "))
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as problem:
        raise FormatError("transcript: its schedule is malformed") from problem
    plan = required_plan(opening.registration)
    narrowed = one_leaf(opening, leaf)
    schedule = make_schedule(narrowed, plan, parameters, own_images=own_images, own_decoys=own_decoys)
    if schedule.digest != fields.get("sha256") or list(schedule.classes) != begin["classes"]:
        raise AuthenticityError("transcript: its queries are not those of this registration and secret")
    for number, image in transcript.asked.items():
        if number >= len(schedule.order) or schedule.digests[schedule.order[number]] != image:
            raise AuthenticityError(f"transcript: query {number} is not the one in its schedule")
    return narrowed, schedule


def judge(
    opening: Opening, schedule: Schedule, transcript: Transcript, *, supplied_by: str = "", suspects: int = 1
) -> Verdict:
    """The verdict on a recorded probe: one test, judged by the registered rule, one of `suspects` probed."""
    # Once a probe has ended, or its writer is gone, what has no answer is lost.
    found = tally(schedule, transcript.answers, transcript.interrupted, label_map=transcript.begin.get("labelMap"))
    rule = opening.rule(suspects)
    item = _evidence(found, schedule, rule.bar_bits)
    return decide(
        [item],
        rule,
        notes=_notes(found, transcript),
        supplied_by=supplied_by or str(transcript.begin.get("recordedBy") or ""),
        context={
            "service": str(transcript.begin.get("service", ""))[:500],
            "transcript": transcript.digest,
            "registration": str(transcript.begin["registration"]),
            "queries": len(transcript.asked),
            "saved": found.total - found.resolved,
        },
    )


def _evidence(found: Tally, schedule: Schedule, bar_bits: float) -> Evidence:
    progress, classes = found.progress, len(schedule.classes)
    # Triggers that were spared because no answer to them could change the outcome were there to be matched.
    hopeless = found.decided(bar_bits) == HOPELESS
    possible = progress.n + (found.total - found.resolved if hopeless else 0)
    charged = f"; {found.charge_bits:.1f} bits charged for a label map supplied afterwards" if found.charge_bits else ""
    return Evidence(
        test="triggers",
        scope=schedule.scope,
        view="stored",
        n=progress.n,
        matches=progress.matches,
        log2_p=found.log2_p,
        capacity_bits=max(0.0, possible * log2(classes) - TWO_LOOKS_BITS - found.charge_bits),
        erasures=found.resolved - progress.n,
        null=NULL.format(classes=classes, charged=charged),
    )


def _notes(found: Tally, transcript: Transcript) -> tuple[str, ...]:
    asked, total = found.resolved, found.total
    notes = [
        f"{asked} of {total} triggers asked, {total - asked} saved; {len(transcript.asked)} queries, decoys included"
    ]
    lost = Counter(item.status for item in transcript.answers.values() if item.label is None)
    if transcript.interrupted:
        lost["interrupted"] = len(transcript.interrupted)
    if lost:
        notes.append("no usable answer: " + ", ".join(f"{count} {status}" for status, count in sorted(lost.items())))
    if found.inconsistent:
        notes.append(f"{found.inconsistent} images got different answers when asked again: counted as erasures")
    if transcript.ended is None:
        notes.append("the probe has not ended: the transcript is open and unsigned")
    else:
        notes.append(f"stopped because {transcript.ended}")
        signed = f"signed by key {transcript.keyid[:16]}" if transcript.keyid else "not signed"
        notes.append(f"the transcript is {signed}; whoever recorded it could have invented the answers")
    return tuple(notes)
