"""Verdicts and suites as one self-contained HTML page: no network, no script, light and dark, readable on a phone.

Names, notes and numbers come from people who may be hostile: everything is escaped, and characters that do not print are shown
as escapes (`hostile.visible`). A content security policy forbids the page to load anything even if that should ever fail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ticketguard.evidence import Verdict
from ticketguard.report import charts, suites, words
from ticketguard.report.facts import Facts, judgement_facts
from ticketguard.report.machine import installed
from ticketguard.report.pictures import Picture
from ticketguard.storage.hostile import visible

if TYPE_CHECKING:
    from ticketguard.suite.results import SuiteResult
    from ticketguard.verify.judge import Case, Judgement

GEOMETRY = {
    "width": charts.PLOT_WIDTH,
    "height": charts.PLOT_HEIGHT,
    "left": charts.LEFT,
    "right": charts.PLOT_WIDTH - charts.RIGHT,
    "top": charts.TOP,
    "bottom": charts.PLOT_HEIGHT - charts.BOTTOM,
}


def verdict_page(verdict: Verdict, *, suspect: str, facts: Facts = (), pictures: Sequence[Picture] = ()) -> str:
    """A whole HTML page on one verdict: decision and bar first, what it means, `facts` of the case, every test."""
    return _environment().get_template("verdict.html").render(**_told(verdict, suspect, facts, pictures))


def judgement_page(
    found: Judgement,
    case: Case,
    *,
    suspect: str,
    judge: tuple[str, str],
    files: Mapping[str, str],
    pictures: Sequence[Picture] = (),
) -> str:
    """A whole HTML page on a judgement: the outcome, every check, the claim's own model and controls, then as `verdict_page`.

    `judge`: key id and time of the one who signed the verdict; `files`: names of the controls by hex digest.
    """
    return (
        _environment()
        .get_template("judgement.html")
        .render(
            **_told(found.verdict, suspect, judgement_facts(found, case, judge), pictures),
            found=found,
            checks=[(check, words.check_words(check, files)) for check in found.checks],
            models=[
                ("the claim's own", case.claim.model, found.original),
                *((f"control {files[key]}", key, each) for key, each in found.controls.items()),
            ],
        )
    )


def _told(verdict: Verdict, suspect: str, facts: Facts, pictures: Sequence[Picture]) -> dict[str, Any]:
    """What `verdict.html` shows."""
    nulls = {item.test: item.null for item in verdict.evidence}
    return {
        "verdict": verdict,
        "suspect": suspect,
        "facts": facts,
        "pictures": pictures,
        "chart": charts.evidence_bars(verdict),
        "nulls": list(nulls.items()),
        "context": [(name, _plain(value)) for name, value in verdict.context.items() if name != "suspect"],
        "document": _Whole(json.dumps(verdict.to_json(), indent=2)),
        "words": words,
    }


def suite_page(suite: SuiteResult, *, machine: Mapping[str, str] | None = None, facts: Facts = ()) -> str:
    """A whole HTML page on a suite: prices of removal, heat map, curves, and every cell, lost or not.

    `machine`: facts about where it ran, by name (`machine.machine_facts`); `facts`: about the model that was attacked.
    """
    bar = suites.bar_of(suite)
    heat = charts.heat_map(suite.results, bar)
    prices = suites.lost_first(suite.prices)
    return (
        _environment()
        .get_template("suite.html")
        .render(
            suite=suite,
            prices=prices,
            kept=sum(not price.removed for price in prices),
            bar=bar,
            controls=suites.controls_words(suite),
            examined=len(suites.examined_controls(suite)),
            not_run=sum(item.accuracy is None for item in suite.results),
            heat=heat,
            widest=max((len(row.cells) for row in heat), default=1),
            curves=[charts.curve(price, suite.accuracy, bar) for price in suite.prices if len(price.curve) > 1],
            single=sum(len(price.curve) == 1 for price in prices),
            geometry=GEOMETRY,
            made=[*facts, *(machine or {}).items()],
            matched=[item for item in suite.results if item.decision == "MATCH"],
            seconds=lambda item: suites.seconds(suite, item),
            total_time=suites.total_time(suite),
            one_strength=suites.ONE_STRENGTH,
            words=words,
        )
    )


class _Whole(str):
    """A long text of our own making that is shown whole, with its line ends."""


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("ticketguard.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.globals.update(version=installed("ticketguard"), price_words=suites.price_words, work_words=suites.work_words)
    made.filters.update(slug=_slug, number=_number, whole=_Whole, parts=_parts)
    return made


def _shown(value: object) -> object:
    """What every expression of a template passes through before it is escaped."""
    if isinstance(value, str) and not isinstance(value, Markup | _Whole):
        return visible(value)
    return value


def _number(value: float) -> str:
    return f"{value:g}"


def _parts(text: str) -> Markup:
    """A name that may go on in the next line after each `+`."""
    return Markup("+<wbr>").join(visible(part) for part in text.split("+"))


def _slug(text: str) -> str:
    return text.lower().replace(" ", "-")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
