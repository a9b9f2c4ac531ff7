"""What `probe` and `verify --endpoint` share: options, how they become a predictor, and the display of progress."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ticketguard.claims.opening import Opening
from ticketguard.commands.common import PATH, Function, bar, passphrase
from ticketguard.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ticketguard.bundle import Bundle
    from ticketguard.evidence import Verdict
    from ticketguard.probe.predictor import Predictor, Take
    from ticketguard.probe.session import OnState, State
    from ticketguard.probe.transcript import Transcript
    from ticketguard.triggers.plan import TriggerPlan

# Defaults and ranges are the library's, which a test compares: importing it here would cost every `verify` a tenth of a second.
OPTIONS = (
    click.option("--mapping", type=PATH, help="JSON file that describes a generic endpoint (docs/probing.md)."),
    click.option("--service-input", type=PATH, help="JSON file: range, layout, size, channels of the service's input."),
    click.option("--output-name", help="Which output of an Open Inference Protocol model holds the answer."),
    click.option(
        "--label-map", type=PATH, help="JSON object service label -> registered class; charged log2(C!) bits."
    ),
    click.option("--token-env", metavar="VAR", help="Environment variable that holds a bearer token."),
    click.option("--header-env", metavar="NAME=VAR", multiple=True, help="Header from an environment variable."),
    click.option(
        "--budget", type=click.IntRange(min=1), default=2000, show_default=True, help="Most requests, retries included."
    ),
    click.option(
        "--rate",
        type=click.FloatRange(0, 10_000),
        default=10.0,
        show_default=True,
        help="Most requests a second; 0: no limit.",
    ),
    click.option(
        "--workers", type=click.IntRange(1, 32), default=4, show_default=True, help="Queries under way at once."
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(0, 3600, min_open=True),
        default=30.0,
        show_default=True,
        help="Seconds for one request.",
    ),
    click.option(
        "--retries", type=click.IntRange(0, 20), default=3, show_default=True, help="Retries of a failed request."
    ),
    click.option(
        "--jitter",
        type=click.FloatRange(0, 3600),
        default=0.0,
        show_default=True,
        help="Random delay before a query, in seconds.",
    ),
    click.option("--leaf", type=click.IntRange(min=0), help="Use the triggers of one leaf, and spare the others."),
    click.option(
        "--decoys", type=click.FloatRange(0, 16), default=0.5, show_default=True, help="Decoy images for each trigger."
    ),
    click.option("--decoy-images", type=PATH, help="Folder of your own decoys, in place of drawn ones."),
    click.option(
        "--repeats", type=click.IntRange(1, 9), default=1, show_default=True, help="Times that every image is asked."
    ),
    click.option("--all-queries", is_flag=True, help="Ask everything, even when the outcome is settled."),
    click.option(
        "--suspects",
        "searched",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Suspects tested in this search, in all.",
    ),
    click.option("--key", type=PATH, help="Secret key that signs the transcript."),
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asked for; `options` by the names of `OPTIONS`."""

    endpoint: str
    transcript: Path
    options: Mapping[str, Any]


def probe_options(function: Function) -> Function:
    """Add every option of a probe to a command."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


def judged(
    bundle: Bundle, endpoint: str | None, transcript: Path, *, options: Mapping[str, Any], quiet: bool
) -> Verdict:
    """The verdict of `verify --endpoint` (probe now, into `transcript`) or `verify --transcript` (replay only)."""
    from ticketguard.probe.run import replay

    opening = bundle.open(passphrase())
    if endpoint is not None:
        run(bundle, opening, Request(endpoint=endpoint, transcript=transcript, options=options), quiet=quiet)
    return replay(
        opening,
        transcript,
        own_images=bundle.own_images(opening.registration),
        own_decoys=_decoys(opening, options["decoy_images"]),
        supplied_by=options["recorded_by"],
        suspects=options["searched"],
    )


def run(bundle: Bundle, opening: Opening, request: Request, *, quiet: bool) -> Transcript:
    """Probe the endpoint as asked for, with a progress line unless `quiet`, and return the transcript."""
    from ticketguard.probe.predictor import Budget
    from ticketguard.probe.run import probe
    from ticketguard.probe.session import Manners
    from ticketguard.triggers.plan import required_plan

    options = request.options
    manners = Manners(
        budget=options["budget"],
        workers=options["workers"],
        jitter=options["jitter"],
        attempts=options["retries"] + 1,
        early=not options["all_queries"],
    )
    # Asked for its checks alone: a search of no suspects has no bar.
    opening.rule(options["searched"])
    decoys = _decoys(opening, options["decoy_images"])
    key = _key(options["key"])
    taken = Budget(options["budget"])
    predictor = predictor_of(request, required_plan(opening.registration), taken.take)
    try:
        if taken.spent == taken.total:
            raise UsageError(f"--budget {taken.total}: spent on the model's metadata, so that nothing can be asked")
        manners = replace(manners, budget=taken.total - taken.spent)
        failures: list[str] = []
        with _progress(quiet) as on_state:
            transcript = probe(
                opening,
                predictor,
                request.transcript,
                manners=manners,
                leaf=options["leaf"],
                decoys=options["decoys"],
                repeats=options["repeats"],
                label_map=_json(options["label_map"]),
                own_images=bundle.own_images(opening.registration),
                own_decoys=decoys,
                declared={"input": _input_of(predictor), "recordedBy": options["recorded_by"]},
                suspects=options["searched"],
                key=key,
                on_state=on_state,
                on_failure=lambda words: failures.__setitem__(slice(None), [words]),
            )
    finally:
        predictor.close()
    if failures:
        lost, asked = len(transcript.asked) - answered(transcript), len(transcript.asked)
        click.echo(f"{lost} of {asked} queries without a usable answer; the last: {failures[0]}", err=True)
    return transcript


def answered(transcript: Transcript) -> int:
    """Queries with a usable answer."""
    return sum(item.label is not None for item in transcript.answers.values())


def _decoys(opening: Opening, folder: Path | None) -> NDArray[np.uint8] | None:
    from ticketguard.triggers.pictures import read_folder
    from ticketguard.triggers.plan import required_plan

    return None if folder is None else read_folder(folder, required_plan(opening.registration).shape)


def predictor_of(request: Request, plan: TriggerPlan, take: Take) -> Predictor:
    """The predictor for an endpoint: an .onnx file, a mapped JSON service, or an Open Inference Protocol model, whose
    metadata cost requests of the budget as well. Options are checked for each kind of endpoint, also those it does not need.
    """
    from ticketguard.probe.adapters import input_of
    from ticketguard.probe.client import Client, Courtesy, checked_url, headers_from
    from ticketguard.probe.endpoint import JsonEndpoint, mapping_from
    from ticketguard.probe.oip import OpenInference
    from ticketguard.probe.onnxmodel import OnnxModel

    options = request.options
    courtesy = Courtesy(timeout=options["timeout"], retries=options["retries"], rate=options["rate"])
    headers = headers_from(os.environ, token=options["token_env"], headers=_pairs(options["header_env"]))
    document = None if options["mapping"] is None else _json(options["mapping"])
    mapped = None if options["mapping"] is None else mapping_from(document)
    wanted = input_of(plan, _json(options["service_input"]) or (mapped.input if mapped else None))
    if request.endpoint.lower().endswith(".onnx") and "://" not in request.endpoint:
        if headers or options["output_name"] is not None:
            raise UsageError(
                "--token-env, --header-env and --output-name are for services: an .onnx file has no use for them"
            )
        return OnnxModel(Path(request.endpoint).expanduser(), plan, wanted, timeout=courtesy.timeout)
    if mapped is not None and options["output_name"] is not None:
        raise UsageError("--output-name is for Open Inference Protocol models: here --mapping says where the answer is")
    url = checked_url(request.endpoint)
    client = Client(courtesy, headers=headers)
    if mapped is not None:
        return JsonEndpoint(client, url, plan, wanted, mapped)
    return OpenInference.connect(client, url, plan, wanted, take, output=options["output_name"])


def _input_of(predictor: Predictor) -> dict[str, Any] | None:
    """How the predictor prepares images, when it does."""
    from ticketguard.probe.adapters import Input

    wanted = getattr(predictor, "input", None)
    return wanted.to_json() if isinstance(wanted, Input) else None


def _json(path: Path | None) -> dict[str, Any] | None:
    from ticketguard.storage.documents import read_object

    return None if path is None else read_object(path)


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(item.partition("=")[::2] for item in given)
    if not all(name and variable for name, variable in pairs.items()):
        raise UsageError("--header-env takes NAME=VAR: the name of a header, and of the variable that holds its value")
    return pairs


def _key(path: Path | None) -> Any:
    if path is None:
        return None
    from ticketguard.claims.keys import load_secret

    return load_secret(path, passphrase())


@contextmanager
def _progress(quiet: bool) -> Iterator[OnState | None]:
    """A progress line with time left on standard error, or nothing."""
    from rich.progress import BarColumn

    with bar("probing", BarColumn(), "{task.fields[words]}", quiet=quiet) as shown:
        if shown is None:
            yield None
            return
        task = shown.add_task("probing", total=1, words="")

        def show(state: State) -> None:
            # Started by the first answer: an error before it is the only line on standard error.
            shown.start()
            words = (
                f"{state.resolved}/{state.triggers} triggers, {state.requests} requests, {state.bits:.0f} of "
                f"{state.bar_bits:.0f} bits, at most {state.seconds_left:.0f} s left"
            )
            shown.update(task, completed=state.resolved, total=state.triggers, words=words)

        yield show
