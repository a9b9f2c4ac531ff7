"""`ticketguard verify`."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from ticketguard.bundle import Bundle
from ticketguard.claims.registration import Registration
from ticketguard.commands.common import (
    PATH,
    json_option,
    passphrase,
    print_json,
    refuse_idle,
    require_output,
    show,
    terminal_width,
)
from ticketguard.commands.probing import judged, probe_options
from ticketguard.errors import StorageError, TicketguardError, UsageError
from ticketguard.evidence import Verdict
from ticketguard.storage.atomic import is_folder, is_there, sha256_of, write_bytes
from ticketguard.storage.hostile import visible
from ticketguard.storage.tensors import TensorFile, model_in
from ticketguard.workers import MOST_JOBS

if TYPE_CHECKING:
    from ticketguard.verify.verifier import Align

# Where a probe records what nobody named.
TRANSCRIPT = Path("transcript.jsonl")
# Options that name a report's file, by parameter.
REPORTS = {"html_path": "--html", "markdown_path": "--markdown", "csv_path": "--csv"}
# Which parameters have an effect always, and which with weights, with predictions, with a transcript; with a service all but
# those of weights have one.
ALWAYS = {"signed", "supplied_by", *REPORTS, "searched", "as_json"}
WEIGHTS = {"suspects", "align", "controls", "jobs"}
PREDICTIONS = {"predictions", "label_map"}
# Those that go with one suspect.
SINGLE = {"predictions", "supplied_by", "html_path", "markdown_path", "controls", "searched"}
REPLAY = {"transcript", "decoy_images"}


@click.command()
@click.argument("suspects", nargs=-1, type=str)
@click.option("--signed", type=PATH, required=True, help="The signed folder, with its secret.")
@click.option(
    "--predictions", type=PATH, help="Answers to the triggers: CSV index,label, or .npy/.json labels or scores."
)
@click.option("--endpoint", help="Ask a service now: a URL or an .onnx file; the options of probe apply.")
@click.option("--transcript", type=PATH, help="Judge a recorded probe; with --endpoint: where to record it.")
@click.option(
    "--align",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Undo channel permutations: when the stored reading does not pass, always, or never (then nobody is cleared).",
)
@click.option("--supplied-by", default="", help="Who supplied the suspect or the predictions; printed in the report.")
@click.option("--html", "html_path", type=PATH, help="Write a self-contained HTML report of one verdict.")
@click.option("--markdown", "markdown_path", type=PATH, help="Write the report of one verdict as Markdown.")
@click.option("--csv", "csv_path", type=PATH, help="Write every test of every suspect as CSV.")
@click.option(
    "--control",
    "controls",
    type=PATH,
    multiple=True,
    help="A model to compare the lineage score with, such as one pruned from the same dense run; repeatable.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, MOST_JOBS),
    help="Processes that share a scan of many suspects.  [default: as many as it gains by]",
)
@probe_options
@json_option
def command(
    suspects: tuple[str, ...],
    signed: Path,
    predictions: Path | None,
    endpoint: str | None,
    transcript: Path | None,
    align: Align,
    supplied_by: str,
    controls: tuple[Path, ...],
    jobs: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Test suspects against a signed ticket: by their weights, by recorded predictions, or both.

    Exit code 0: match. 1: no match or inconclusive. With several suspects: 0 when any of them matches.

    \b
    Examples:  ticketguard verify suspect.safetensors --signed signed/
               ticketguard verify --predictions answers.csv --signed signed/
               ticketguard verify 'hub/**/*.safetensors' --signed signed/
               ticketguard verify --endpoint https://host/v2/models/digits --signed signed/ --budget 400
    """  # noqa: D301 - click wants the character itself
    paths = expand(suspects)
    reports = {option: path for name, option in REPORTS.items() if (path := options.pop(name)) is not None}
    if reports:
        told = (options[name] for name in ("label_map", "key", "mapping", "service_input", "decoy_images"))
        # A probe writes its transcript, here or at its usual place; a service may be a file.
        recorded = transcript if endpoint is None else transcript or TRANSCRIPT
        service = None if endpoint is None or "://" in endpoint else Path(endpoint).expanduser()
        _require_reports(reports, inputs=(*paths, predictions, recorded, service, *controls, *told))
    if endpoint is not None or transcript is not None:
        if paths or predictions is not None:
            raise UsageError("--endpoint and --transcript stand alone, without suspects and --predictions")
        everything = {parameter.name or "" for parameter in click.get_current_context().command.params}
        _refuse_idle(ALWAYS | REPLAY if endpoint is None else everything - WEIGHTS)
        path = transcript or TRANSCRIPT
        chosen = {**options, "recorded_by": supplied_by}
        verdict = judged(Bundle(signed), endpoint, path, options=chosen, quiet=as_json)
        files = _digests(reports, None, path)
        return _report({_shown(endpoint, path): verdict}, Bundle(signed), None, files, reports, as_json)
    if not paths and predictions is None:
        raise UsageError("nothing to verify: name a suspect, or give --predictions, --endpoint or --transcript")
    _refuse_idle(ALWAYS | (WEIGHTS if paths else set()) | (PREDICTIONS if predictions is not None else set()))
    if len(paths) > 1:
        _refuse_single()
        results = scanned(Bundle(signed), paths, align, jobs)
        return _report(results, Bundle(signed), None, (), reports, as_json)
    weights, name = _opened(paths[0]) if paths else None, str(paths[0] if paths else predictions)
    files = _digests(reports, weights, predictions)
    results = {
        name: run(
            Bundle(signed),
            weights,
            name,
            predictions,
            options["label_map"],
            align,
            supplied_by,
            options["searched"],
            controls,
        )
    }
    if _digests(reports, weights, predictions) != files:
        raise StorageError(f"{name}: changed while it was read: verify a copy that nobody else can write to")
    return _report(results, Bundle(signed), weights, files, reports, as_json)


def _digests(
    reports: Mapping[str, Path], weights: TensorFile | None, answers: Path | None
) -> tuple[tuple[str, str], ...]:
    """What names the suspect's files in a page: only for one are they read whole."""
    if reports.keys() <= {"--csv"}:
        return ()
    from ticketguard.report import facts
    from ticketguard.verify.judge import digest_of

    return (
        *(() if weights is None else ((facts.SUSPECT, digest_of(weights)),)),
        *(() if answers is None else ((facts.ANSWERS, sha256_of(answers)),)),
    )


def _opened(path: Path) -> TensorFile:
    """The one suspect's tensors; it is opened once, for the verdict and for its reports."""
    from ticketguard.storage.suspects import read_any

    try:
        return read_any(path)
    except TicketguardError as problem:
        if is_folder(path):
            raise UsageError(f"{problem}, or for every suspect in it '{path}/*.safetensors'") from problem
        raise


def _require_reports(reports: Mapping[str, Path], inputs: Sequence[Path | None]) -> None:
    """Raise unless every report, by its option, may be written, each to a file of its own."""
    for number, (option, path) in enumerate(reports.items()):
        require_output(path, inputs=inputs, reports=list(reports.values())[:number], option=option)


def _refuse_idle(effective: AbstractSet[str]) -> None:
    """Raise `UsageError` for an option that was typed and is not `effective`: accepted, it would seem to do something."""
    everything = {parameter.name or "" for parameter in click.get_current_context().command.params}
    rest = everything - WEIGHTS - PREDICTIONS
    for names, needs in ((WEIGHTS, "weights"), (PREDICTIONS, "--predictions"), (rest, "--endpoint")):
        refuse_idle(names - effective, f"goes with {needs}: here it has no effect")


def _refuse_single() -> None:
    """Raise `UsageError` for an option that was typed and goes with one suspect."""
    refuse_idle(SINGLE - {"searched"}, "goes with one suspect")
    refuse_idle({"searched"}, "goes with one suspect: a scan counts its own")


def _shown(endpoint: str | None, transcript: Path) -> str:
    """What a report calls the suspect: a query or a fragment of an address may hold a key."""
    from ticketguard.probe.client import shown

    return str(transcript) if endpoint is None else shown(endpoint) if "://" in endpoint else endpoint


def _report(
    results: Mapping[str, Verdict | TicketguardError],
    bundle: Bundle,
    weights: TensorFile | None,
    files: Sequence[tuple[str, str]],
    reports: Mapping[str, Path],
    as_json: bool,
) -> int:
    """Write and print the results, on `weights` where one suspect has some; the exit code. `files`: what a page names."""
    _write(reports, results, bundle, weights, files)
    _print(results, as_json)
    if all(isinstance(result, TicketguardError) for result in results.values()):
        return 2
    return 0 if any(isinstance(result, Verdict) and result.decision == "MATCH" for result in results.values()) else 1


def expand(patterns: Sequence[str]) -> list[Path]:
    """Suspects as named, patterns with * ? [ expanded here too, for shells that do not; each file once, in order."""
    paths: dict[Path, None] = {}
    for pattern in patterns:
        if glob.has_magic(pattern) and not is_there(Path(pattern)):
            found = sorted(glob.glob(pattern, recursive=True))
            if not found:
                raise UsageError(f"{pattern}: no such file")
            paths |= dict.fromkeys(_inside(Path(name)) for name in found)
        else:
            paths[_inside(Path(pattern).expanduser())] = None
    return list(paths)


def _inside(path: Path) -> Path:
    """The one model in a folder, so that a report names the file that is read; else the path as it is."""
    try:
        return model_in(path) if is_folder(path) else path
    except TicketguardError:
        return path  # reading it tells why


def scanned(
    bundle: Bundle, paths: list[Path], align: Align, jobs: int | None
) -> Mapping[str, Verdict | TicketguardError]:
    """Verdicts by name; the error of an unreadable suspect stands in its row."""
    from ticketguard import api
    from ticketguard.verify.scan import jobs_for

    examiner = api.examiner_of(bundle, passphrase())
    found = api.scan(examiner, paths, align=align, jobs=jobs or jobs_for(paths))
    return {str(path): result for path, result in found.items()}


def run(
    bundle: Bundle,
    weights: TensorFile | None,
    name: str,
    predictions: Path | None,
    label_map: Path | None,
    align: Align,
    supplied_by: str,
    suspects: int = 1,
    controls: Sequence[Path] = (),
) -> Verdict:
    """The verdict on one suspect, called `name`: its `weights`, its answers or both."""
    from ticketguard import api
    from ticketguard.storage.suspects import read_any

    examiner = api.examiner_of(bundle, passphrase())
    answers, charge = _answers(examiner.opening.registration, predictions, label_map)
    return examiner.verify(
        weights,
        predictions=answers,
        charge_bits=charge,
        align=align,
        supplied_by=supplied_by,
        suspects=suspects,
        context={"suspect": name},
        notes=[f"lineage: {path} has {examiner.lineage(read_any(path)):.2f}" for path in controls],
    )


def _answers(
    registered: Registration, predictions: Path | None, label_map: Path | None
) -> tuple[NDArray[np.int64] | None, float]:
    """Labels in pooled order and the bits that a label map costs; (None, 0) without predictions."""
    from ticketguard.storage.documents import read_object
    from ticketguard.triggers.plan import required_plan
    from ticketguard.triggers.predictions import read_predictions

    if predictions is None:
        return None, 0.0
    plan = required_plan(registered)
    mapping = None if label_map is None else read_object(label_map)
    found = read_predictions(predictions, plan, label_map=mapping)
    return found.labels, found.charge_bits


def _write(
    reports: Mapping[str, Path],
    results: Mapping[str, Verdict | TicketguardError],
    bundle: Bundle,
    weights: TensorFile | None,
    files: Sequence[tuple[str, str]],
) -> None:
    """The reports, by option; a page is about the one verdict there is."""
    if path := reports.get("--csv"):
        from ticketguard.report.csvfile import verdicts_csv

        write_bytes(path, verdicts_csv(results).encode())
    if reports.keys() <= {"--csv"}:
        return
    from ticketguard.report import facts

    registered, payload = bundle.read_registration()
    told = (
        *facts.registration_facts(registered, payload),
        *files,
        *facts.made_facts(datetime.now(UTC)),
    )
    for name, result in results.items():
        if isinstance(result, TicketguardError):
            continue
        if path := reports.get("--markdown"):
            from ticketguard.report.markdown import verdict_markdown

            write_bytes(path, verdict_markdown(result, suspect=name, facts=told).encode())
        if path := reports.get("--html"):
            from ticketguard.report.html import verdict_page
            from ticketguard.report.suspects import pictures_of

            pictures = [] if weights is None else pictures_of(weights, registered)
            write_bytes(path, verdict_page(result, suspect=name, facts=told, pictures=pictures).encode())


def _print(results: Mapping[str, Verdict | TicketguardError], as_json: bool) -> None:
    if as_json:
        documents = [
            {"suspect": name, **result.to_json()}
            if isinstance(result, Verdict)
            else {"suspect": name, "error": str(result)}
            for name, result in results.items()
        ]
        print_json(documents[0] if len(documents) == 1 else {"suspects": documents})
        return
    from ticketguard.report.text import scan_reasons, scan_table, verdict_text

    verdicts = {name: result for name, result in results.items() if isinstance(result, Verdict)}
    if len(results) == 1:
        for name, verdict in verdicts.items():
            show(verdict_text(verdict, name))
        return
    if verdicts:
        show(scan_table(verdicts, terminal_width()), *scan_reasons(verdicts))
    for name, result in results.items():
        if isinstance(result, TicketguardError):
            # Most complaints about a file begin with its name.
            words = str(result) if str(result).startswith(f"{name}:") else f"{name}: {result}"
            click.echo(visible(words), err=True)
