"""`ticketguard judge`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ticketguard.bundle import ENVELOPE_LIMIT
from ticketguard.claims import keys, statements
from ticketguard.commands.cases import (
    case_options,
    control_files,
    read_case,
    require_controls,
    show_checks,
    show_numbers,
)
from ticketguard.commands.common import (
    PATH,
    json_option,
    passphrase,
    print_json,
    require_nonce,
    require_output,
)
from ticketguard.commands.precious import warn_of_secrets
from ticketguard.errors import AuthenticityError, UsageError
from ticketguard.storage.atomic import is_there, read_bytes, write_bytes
from ticketguard.storage.hostile import visible
from ticketguard.verify import verdicts
from ticketguard.verify.judge import Case, Judgement

MOST_SUSPECTS = 10**12


@click.command()
@click.argument("public", type=PATH)
@click.option("--reveal", "reveal_path", type=PATH, required=True, help="The owner's reveal, encrypted to you or not.")
@click.option("--suspect", type=PATH, help="The suspect's weights.")
@click.option("--transcript", type=PATH, help="Recorded answers of the suspect service.")
@click.option("--nonce", help="The nonce that you gave to the owner.")
@click.option(
    "--control", "controls", type=PATH, multiple=True, help="A known ancestor or unrelated model; repeatable."
)
@click.option("--supplied-by", help="Who supplied the suspect or the answers; printed in the verdict.")
@click.option(
    "--suspects",
    "searched",
    type=click.IntRange(1, MOST_SUSPECTS),
    help="Suspects that the claimant examined to find this one, itself included: each counts as a test.  [default: 1]",
)
@click.option("--key", "key_path", type=PATH, help="Your secret key: signs the verdict, decrypts the reveal.")
@click.option("--out", type=PATH, help="The signed verdict to write, a new file.")
@click.option("--html", "html_path", type=PATH, help="Write a self-contained HTML report of the judgement as well.")
@click.option("--check", "check_path", type=PATH, help="Recompute this signed verdict from the files instead.")
@case_options
@json_option
def command(
    public: Path,
    reveal_path: Path,
    nonce: str | None,
    supplied_by: str | None,
    searched: int | None,
    key_path: Path | None,
    out: Path | None,
    html_path: Path | None,
    check_path: Path | None,
    as_json: bool,
    **files: Any,
) -> int:
    """Judge a claim and a suspect from public files, and sign a verdict that anyone can recompute.

    PUBLIC is the owner's folder without secret.tgs: registration, claim, released ticket and model. The claim's own model
    must carry the mark, and no control may: otherwise the claim is void. Exit code 0: match; 1: anything else.

    \b
    Examples:  ticketguard judge public/ --reveal reveal.dsse.json --suspect suspect.safetensors --nonce $NONCE
                   --control other.safetensors --key judge.key --out verdict.dsse.json
               ticketguard judge public/ --reveal reveal.dsse.json --suspect suspect.safetensors
                   --control other.safetensors --check verdict.dsse.json
    """  # noqa: D301 - click wants the backspace character
    if check_path is not None and out is not None:
        raise UsageError("--out writes a new verdict, --check recomputes an old one: give one of them")
    if nonce is not None:
        require_nonce(nonce)
    named = (files[name] for name in ("suspect", "transcript", "roots", "withdrawal", "trigger_images"))
    inputs = (reveal_path, key_path, check_path, *named, *files["controls"])
    if out is not None:
        require_output(out, inputs=inputs)
        if is_there(out):
            raise UsageError(f"{out} exists already: a signed verdict is never written over; choose another --out")
    if html_path is not None:
        require_output(html_path, inputs=(*inputs, out), option="--html")
    key = None if key_path is None else keys.load_secret(key_path, passphrase())
    case = read_case(public, reveal_path, key=key, **files)
    warn_of_secrets(public)
    named_controls = control_files(files["controls"], case.control_digests)
    if check_path is not None:
        signed = read_bytes(check_path, limit=ENVELOPE_LIMIT)
        _require_asked(signed, named_controls, nonce, supplied_by, searched, where=str(check_path))
        found = verdicts.recompute(signed, case, where=str(check_path))
    else:
        if key is None or out is None or nonce is None:
            raise UsageError("a new verdict needs --nonce, --key and --out; an old one is recomputed with --check")
        require_controls(case, named_controls)
        now = datetime.now(UTC).replace(microsecond=0)
        found, signed = verdicts.sign(
            case, key, nonce=nonce, now=now, supplied_by=supplied_by or "", suspects=searched or 1
        )
        write_bytes(out, signed)
    judge = verdicts.judge_of(signed)
    if judge[0] in case.registration.signers:
        click.echo(
            "ticketguard: the judge's key is the claimant's own: its signature adds nothing to the claim", err=True
        )
    if html_path is not None:
        _write_html(html_path, found, case, str(files["suspect"] or files["transcript"]), judge, named_controls)
    _report(found, case, out, check_path, judge, named_controls, as_json)
    return 0 if found.outcome == "MATCH" else 1


def _require_asked(
    signed: bytes,
    given: Collection[str],
    nonce: str | None,
    supplied_by: str | None,
    searched: int | None,
    *,
    where: str,
) -> None:
    """Raise `AuthenticityError` where a verdict has another nonce, supplier, search or controls than the reader names.

    `given`: digests of the reader's controls. Without this the verdict's own values would be taken for the recomputation,
    whatever the reader said. What is malformed in it is left to that.
    """
    _, predicate = verdicts.read(signed, where=where)
    verdict, controls = predicate.get("verdict"), predicate.get("controls")
    if nonce is not None and predicate.get("nonce") != nonce:
        raise AuthenticityError(f"{where}: judged with another nonce than --nonce {nonce[:32]}")
    if supplied_by is not None and isinstance(verdict, dict) and verdict.get("suppliedBy") != supplied_by:
        raise AuthenticityError(f"{where}: names another supplier than --supplied-by {supplied_by[:80]!r}")
    rule = verdict.get("rule") if isinstance(verdict, dict) else None
    if searched is not None and isinstance(rule, dict) and rule.get("suspects") != searched:
        raise AuthenticityError(f"{where}: judged as one of another number of suspects than --suspects {searched}")
    rows = controls if isinstance(controls, list) else []
    named = {row["sha256"] for row in rows if isinstance(row, dict) and statements.is_digest(row.get("sha256"))}
    if isinstance(controls, list) and named != set(given):
        changes = (("give the models", named.difference(given)), ("leave out those", set(given) - named))
        advice = [
            f"{what} with sha256 {', '.join(digest[:16] for digest in sorted(some)[:3])}"
            for what, some in changes
            if some
        ]
        raise AuthenticityError(f"{where}: judged with other controls than these: as --control, {' and '.join(advice)}")


def _write_html(
    path: Path, found: Judgement, case: Case, suspect: str, judge: tuple[str, str], controls: Mapping[str, str]
) -> None:
    from ticketguard.report.html import judgement_page
    from ticketguard.report.suspects import pictures_of

    pictures = [] if case.suspect is None else pictures_of(case.suspect, case.registration)
    page = judgement_page(found, case, suspect=suspect, judge=judge, files=controls, pictures=pictures)
    write_bytes(path, page.encode())


def _report(
    found: Judgement,
    case: Case,
    out: Path | None,
    checked: Path | None,
    judge: tuple[str, str],
    controls: Mapping[str, str],
    as_json: bool,
) -> None:
    """Print a judgement: a new one, written to `out`, or that of the verdict `checked`; `controls`: names by digest."""
    from ticketguard.report.facts import claim_facts, maker

    keyid, judged_at = judge
    if as_json:
        print_json(
            {
                "outcome": found.outcome,
                "reason": found.reason,
                "checks": [asdict(check) for check in found.checks],
                "verdict": found.verdict.to_json(),
                "priority": dict(found.priority),
                "suspect": case.suspect_digest,
                "judge": keyid,
                "judgedAt": judged_at,
                "file": str(out or checked),
            }
        )
        return
    if checked is not None:
        click.echo(f"CHECKED {checked}: recomputed from these files, every number as signed")
    click.echo(f"{found.outcome}: {found.reason}")
    show_checks(found.checks, controls, found.controls.values())
    if found.outcome == "VOID":
        click.echo("  the test below does not count: the claim is void")
    show_numbers(found.verdict)
    click.echo(f"  priority: {found.priority['status']}  {found.priority.get('time', '')}")
    if found.verdict.caveat and found.outcome != "VOID":
        click.echo(f"  {found.verdict.caveat}")
    for name, value in claim_facts(case):
        click.echo(visible(f"  {name[:1].lower()}{name[1:]}: {value}"))
    if case.transcript is not None:
        said = case.transcript
        click.echo(visible(f"  service {said.service or 'not stated'}, recorded by {said.recorded_by or 'not stated'}"))
    click.echo(f"  judged at {judged_at}, by its own word, by the holder of key {keyid}")
    click.echo(f"  made by: {maker()}")
    click.echo(f"  verdict {out}" if checked is None else f"  checked {checked}")
