"""`ticketguard suite`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ticketguard.bundle import Bundle
from ticketguard.commands.common import (
    PATH,
    bar,
    json_option,
    passphrase,
    print_json,
    refuse_idle,
    require_output_folder,
    show,
)
from ticketguard.commands.training_options import data_options, load_data
from ticketguard.errors import UsageError
from ticketguard.storage.atomic import is_there
from ticketguard.workers import MOST_JOBS, Staff, cores

if TYPE_CHECKING:
    from ticketguard.data import Dataset
    from ticketguard.suite import Plan, Progress, SuiteResult


@click.command()
@click.argument("signed", type=PATH)
@data_options
@click.option("--out", type=PATH, required=True, help="Folder of results; the same suite goes on there.")
@click.option("--preset", default="quick", show_default=True, help="quick, standard or full.")
@click.option("--plan", "plan_path", type=PATH, help="A plan of your own, .toml or .json, instead of a preset.")
@click.option("--engine", default="serial", show_default=True, help="serial, processes or ray: same results.")
@click.option("--jobs", type=int, help="Cells at a time, for processes and ray.  [default: as many as cores allow]")
@click.option("--ray-address", help="Ray cluster to use; by default one is started here.")
@click.option("--gpus", type=float, default=0.0, help="Share of a GPU for each cell on Ray.")
@click.option(
    "--threads", type=int, default=1, show_default=True, help="CPU threads of each cell; results depend on it."
)
@click.option("--device", default="cpu", show_default=True, help="Where attacks train: cpu, cuda or auto.")
@click.option("--unsigned", type=PATH, help="The ticket before signing: makes the control `unsigned` possible.")
@click.option("--images", type=int, help="The attacker has only this many training images.")
@click.option("--test-images", type=int, help="Measure accuracy on only this many test images.")
@click.option("--epochs", type=int, help="Epochs of attacks that train, instead of the plan's.")
@click.option("--seed", type=int, help="Only this seed, instead of the plan's.")
@json_option
def command(
    signed: Path,
    data: str,
    data_dir: Path | None,
    limit: int | None,
    out: Path,
    preset: str,
    plan_path: Path | None,
    engine: str,
    jobs: int | None,
    ray_address: str | None,
    gpus: float,
    threads: int,
    device: str,
    unsigned: Path | None,
    images: int | None,
    test_images: int | None,
    epochs: int | None,
    seed: int | None,
    as_json: bool,
) -> int:
    """Attack the trained model of the folder SIGNED in every way of a plan, and measure what is left of the signature.

    Results go to OUT as each cell ends (cells.jsonl), and in order at the end (results.jsonl, suite.json, reports).
    Exit code 0: done; 1: a control matched, a model made without the secret, which must never happen.

    \b
    Examples:  ticketguard suite signed/ --data digits --out suite/
               ticketguard suite signed/ --data digits --preset standard --engine processes --jobs 2 --out suite/
    """  # noqa: D301 - click reads the backspace
    if plan_path is not None:
        refuse_idle({"preset"}, "and --plan name a grid each: give one of them")
    if engine == "serial":
        refuse_idle({"jobs"}, "goes with --engine processes or ray: here it has no effect")
    if engine != "ray":
        refuse_idle({"gpus", "ray_address"}, "goes with --engine ray: here it has no effect")
    require_output_folder(out)
    if is_there(Bundle(out).registration):
        raise UsageError(f"{out}: a signed folder: files are kept there: choose another --out")
    if jobs is None:
        jobs = 1 if engine == "serial" else max(1, min(cores() // max(threads, 1), MOST_JOBS))
    with _staff(engine, jobs) as staff:
        from ticketguard.suite import EngineOptions, run_suite

        plan = _plan(preset, plan_path, images, epochs, seed)
        options = EngineOptions(jobs=jobs, address=ray_address, gpus=gpus, staff=staff)
        dataset = load_data(data, data_dir, limit)
        if test_images is not None:
            dataset = _fewer_tests(dataset, test_images)
        word = passphrase()
        with _progress(quiet=as_json) as tell:
            suite = run_suite(
                signed, dataset, plan, out, passphrase=word, unsigned=unsigned, threads=threads, device=device, engine=engine,
                options=options, on_progress=tell,
            )  # fmt: skip
    _write_reports(out, suite, Bundle(signed))
    code = 1 if suite.false_matches else 0
    if as_json:
        print_json(suite.to_json())
        return code
    from ticketguard.report.suite_text import suite_text

    show(suite_text(suite))
    click.echo(f"\nreports: {out / 'report.html'}, {out / 'report.md'}, {out / 'results.csv'}")
    return code


@contextmanager
def _staff(engine: str, jobs: int) -> Iterator[Staff | None]:
    """Workers for the engine `processes`: they import torch while this process does. None where the engine will want none."""
    if engine != "processes" or not 2 <= jobs <= MOST_JOBS:
        yield None
        return
    with Staff(jobs - 1, "ticketguard.suite.engines:warm") as staff:
        yield staff


def _write_reports(out: Path, suite: SuiteResult, bundle: Bundle) -> None:
    """The suite as one HTML page, as Markdown and as CSV, beside its results."""
    from ticketguard.report import facts
    from ticketguard.report.csvfile import suite_csv
    from ticketguard.report.html import suite_page
    from ticketguard.report.machine import machine_facts
    from ticketguard.report.markdown import suite_markdown
    from ticketguard.storage.atomic import write_bytes
    from ticketguard.storage.tensors import read_tensors
    from ticketguard.verify.judge import digest_of

    machine = machine_facts()
    told = (
        *facts.registration_facts(*bundle.read_registration()),
        (facts.MODEL, digest_of(read_tensors(bundle.model))),
        # The version is among the facts about the machine.
        *facts.made_facts(datetime.now(UTC))[:1],
    )
    write_bytes(out / "report.html", suite_page(suite, machine=machine, facts=told).encode())
    write_bytes(out / "report.md", suite_markdown(suite, machine=machine, facts=told).encode())
    write_bytes(out / "results.csv", suite_csv(suite).encode())


def _plan(preset: str, path: Path | None, images: int | None, epochs: int | None, seed: int | None) -> Plan:
    """The plan that the options describe."""
    from dataclasses import replace

    from ticketguard.suite import preset as preset_of
    from ticketguard.suite import read_plan

    plan = preset_of(preset) if path is None else read_plan(path)
    if seed is not None:
        if seed < 0:
            raise UsageError(f"seeds count from 0, not {seed}")
        plan = replace(plan, seeds=(seed,), entries=tuple(replace(item, seeds=None) for item in plan.entries))
    if epochs is not None:
        plan = replace(plan, epochs=epochs, entries=tuple(replace(item, epochs=None) for item in plan.entries))
    return plan if images is None else replace(plan, images=images)


def _fewer_tests(dataset: Dataset, count: int) -> Dataset:
    """The data set with its first `count` test images."""
    from dataclasses import replace

    if not 1 <= count <= len(dataset.test_images):
        raise UsageError(f"--test-images must be 1 to {len(dataset.test_images)}, not {count}")
    return replace(dataset, test_images=dataset.test_images[:count], test_labels=dataset.test_labels[:count])


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Progress], Any] | None]:
    """A progress bar on standard error with the last cell and time left; None when `quiet`."""
    from rich.progress import BarColumn, MofNCompleteColumn

    columns = (BarColumn(), MofNCompleteColumn(), "{task.fields[left]}", "{task.description}")
    with bar(*columns, quiet=quiet) as shown:
        if shown is None:
            yield None
            return
        task = shown.add_task("", total=None, left="")

        def show(progress: Progress) -> None:
            # Started here: before, the number of cells is not known, and an error would follow an empty bar.
            shown.start()
            words = "" if progress.result is None else f"{progress.result.label}: {progress.result.decision}"
            minutes, seconds = divmod(round(progress.seconds_left), 60)
            left = f"{minutes}:{seconds:02d} left" if progress.result else ""
            shown.update(task, total=progress.total, completed=progress.done, description=words, left=left)

        yield show
