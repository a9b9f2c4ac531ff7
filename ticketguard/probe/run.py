"""One probe from beginning to end: new or resumed, then judged; and the judgement of a transcript alone."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ticketguard.claims.keys import SecretKey
from ticketguard.claims.opening import Opening
from ticketguard.errors import UsageError
from ticketguard.evidence import Verdict
from ticketguard.probe.judging import begin_fields, judge, schedule_of
from ticketguard.probe.predictor import Predictor
from ticketguard.probe.schedule import Parameters, Schedule, make_schedule, one_leaf
from ticketguard.probe.session import Manners, OnFailure, OnState, Session
from ticketguard.probe.transcript import Log, Transcript, begun, read
from ticketguard.storage.atomic import exclusive_file
from ticketguard.triggers.labels import Classes
from ticketguard.triggers.plan import required_plan
from ticketguard.triggers.render import Images

DECOY_SHARE = 0.5


def probe(
    opening: Opening,
    predictor: Predictor,
    path: Path,
    *,
    manners: Manners,
    leaf: int | None = None,
    decoys: float = DECOY_SHARE,
    repeats: int = 1,
    label_map: Mapping[str, str] | None = None,
    own_images: Images | None = None,
    own_decoys: Images | None = None,
    declared: Mapping[str, Any] | None = None,
    suspects: int = 1,
    key: SecretKey | None = None,
    on_state: OnState | None = None,
    on_failure: OnFailure | None = None,
) -> Transcript:
    """Ask `predictor` about the triggers of `opening` (or of one leaf), and record everything at `path`.

    When `path` holds an interrupted transcript, it is continued: nothing is asked twice, and its own leaf, decoys and
    repeats hold. `decoys` is their number for each trigger; with `own_decoys` all of those are used. `declared` is
    plain JSON for the first line (how images are prepared, who records). `suspects`: how many are probed in this
    search, which raises the bar. `key` signs the end. `on_failure` is told what came in place of every usable answer.
    Raises `UsageError` when the request makes no sense, when the transcript belongs to another service or label map, or when
    another process is at it, and `DataError` when the service cannot be reached at all: `path` is then as it was.
    """
    fixed = {
        "service": predictor.description,
        "labelMap": None if label_map is None else dict(label_map),
        **(declared or {}),
    }
    with exclusive_file(path):
        if begun(path):
            log, previous = Log.resume(path)
            for name, value in fixed.items():
                if previous.begin.get(name) != value:
                    raise UsageError(
                        f"{path}: this probe was begun with another {name}: choose a new file for a new probe"
                    )
            narrowed, schedule = schedule_of(opening, previous, own_images=own_images, own_decoys=own_decoys)
        else:
            narrowed, schedule = _new_schedule(opening, leaf, decoys, repeats, own_images, own_decoys)
            Classes(names=schedule.classes, label_map=label_map)
            log, previous = Log.begin(path, begin_fields(narrowed, schedule, **fixed)), None
        session = Session(
            predictor=predictor,
            schedule=schedule,
            log=log,
            bar_bits=opening.rule(suspects).bar_bits,
            manners=manners,
            previous=previous,
            label_map=label_map,
            on_state=on_state,
            on_failure=on_failure,
        )
        session.run(key)
        return read(path)


def _new_schedule(
    opening: Opening,
    leaf: int | None,
    decoys: float,
    repeats: int,
    own_images: Images | None,
    own_decoys: Images | None,
) -> tuple[Opening, Schedule]:
    plan = required_plan(opening.registration)
    if not 0 <= decoys <= 16:
        raise UsageError(f"decoys: 0 to 16 for each trigger, not {decoys}")
    narrowed = one_leaf(opening, leaf)
    count = round(decoys * plan.per_leaf * len(narrowed.leaves)) if own_decoys is None else len(own_decoys)
    parameters = Parameters(salt=secrets.token_hex(8), decoys=count, repeats=repeats, own_decoys=own_decoys is not None)
    schedule = make_schedule(narrowed, plan, parameters, own_images=own_images, own_decoys=own_decoys)
    return narrowed, schedule


def replay(
    opening: Opening,
    path: Path,
    *,
    own_images: Images | None = None,
    own_decoys: Images | None = None,
    supplied_by: str = "",
    suspects: int = 1,
) -> Verdict:
    """The verdict that a transcript gives, without any network. Law: the one that the probe ended with.

    `suspects`: how many were probed in the same search.
    """
    transcript = read(path)
    _, schedule = schedule_of(opening, transcript, own_images=own_images, own_decoys=own_decoys)
    return judge(opening, schedule, transcript, supplied_by=supplied_by, suspects=suspects)
