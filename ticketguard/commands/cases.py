"""Reading the public files of a case: what `judge`, `dispute` and `audit` have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from ticketguard.bundle import ENVELOPE_LIMIT, Bundle
from ticketguard.claims import envelope, hpke, reveal, timestamps, vault
from ticketguard.claims.keys import SecretKey
from ticketguard.claims.registration import Registration
from ticketguard.claims.reveal import Reveal
from ticketguard.claims.timestamps import Stamp
from ticketguard.commands.common import PATH, Function, show
from ticketguard.errors import AuthenticityError, FormatError, StorageError, UsageError, named
from ticketguard.evidence import UNREAD, Verdict
from ticketguard.probe.transcript import FIRST_BYTES
from ticketguard.storage.atomic import is_there, read_bytes, read_start
from ticketguard.storage.hostile import visible
from ticketguard.storage.suspects import read_any
from ticketguard.storage.tensors import read_tensors
from ticketguard.triggers.plan import plan_of
from ticketguard.triggers.render import Images, in_order
from ticketguard.verify import transcript as transcripts
from ticketguard.verify.judge import Case, Check, digest_of


def case_options(function: Function) -> Function:
    """`--root`, `--withdrawal` and `--trigger-images`, as `read_case` takes them."""
    withdrawn = "A statement that withdraws the registration, from wherever you have it."
    pictures = "Folder of the owner's own trigger images, when those are registered."
    for option in (
        click.option("--trigger-images", type=PATH, help=pictures),
        click.option("--withdrawal", type=PATH, help=withdrawn),
        click.option("--root", "roots", type=PATH, help="PEM file of the time-stamp authorities that you trust."),
    ):
        function = option(function)
    return function


def read_case(
    public: Path,
    reveal_path: Path,
    *,
    suspect: Path | None = None,
    transcript: Path | None = None,
    controls: Sequence[Path] = (),
    roots: Path | None = None,
    key: SecretKey | None = None,
    withdrawal: Path | None = None,
    trigger_images: Path | None = None,
) -> Case:
    """The case of the folder `public` (registration, claim, released ticket and model), every signature verified.

    `key` decrypts a reveal that was encrypted to this judge; `roots` pins the authorities of time stamps; `withdrawal`: a
    statement that withdraws the registration, besides one in the folder: either ends the case. `trigger_images`: folder of the
    owner's own trigger images, when their digests are registered.
    """
    bundle = Bundle(public)
    registered, payload = bundle.read_registration()
    bundle.require_standing(registered, payload, given=withdrawal)
    for path in (bundle.claim, bundle.ticket, bundle.model):
        if not is_there(path):
            raise StorageError(f"{path}: no such file: it belongs to a public folder, so ask the claimant for it")
    claim, claim_payload = bundle.read_claim()
    shown, shown_payload = read_reveal(reveal_path, registered.signers, key)
    return Case(
        registration=registered,
        registration_payload=payload,
        claim=claim,
        claim_payload=claim_payload,
        reveal=shown,
        reveal_payload=shown_payload,
        reference=bundle.reference(registered),
        ticket=digest_of(read_tensors(bundle.ticket)),
        original=read_tensors(bundle.model),
        suspect=None if suspect is None else read_any(suspect),
        transcript=None if transcript is None else read_transcript(transcript),
        controls=tuple(read_any(path) for path in controls),
        stamp=read_stamp(bundle.registration_stamp, payload, roots),
        own_images=own_images(registered, trigger_images),
    )


def read_reveal(path: Path, signers: Collection[str], key: SecretKey | None) -> tuple[Reveal, bytes]:
    """A reveal signed by one of the keys `signers` (ids), decrypted with `key` when it is sealed, and its exact payload."""
    with _a_reveal(path):
        data = read_bytes(path, limit=ENVELOPE_LIMIT)
    if vault.is_sealed(data):
        raise FormatError(f"{path}: not a reveal, but a secret under a passphrase, which its owner gives nobody")
    if hpke.is_sealed(data):
        if key is None:
            raise UsageError(f"{path}: encrypted to a judge; give that judge's secret key with --key")
        data = hpke.unseal(data, key, purpose="reveal", where=str(path))
    with _a_reveal(path):
        opened = envelope.open_by(data, signers, where=str(path))
    with named(str(path)):
        shown = reveal.parse(opened.payload)
    if key is not None and shown.recipient not in (None, hpke.recipient_id(hpke.public_key(key))):
        raise AuthenticityError(f"{path}: made for another judge than the holder of this key")
    return shown, opened.payload


@contextmanager
def _a_reveal(path: Path) -> Iterator[None]:
    """What the reader of a signed statement says of any other file is said of a reveal."""
    try:
        yield
    except FormatError as problem:
        raise FormatError(f"{path}: not a reveal: {str(problem).removeprefix(f'{path}: ')}") from problem


def own_images(registered: Registration, folder: Path | None) -> Images | None:
    """The owner's own trigger images in a folder, in the registered order; None without a folder."""
    if folder is None:
        return None
    from ticketguard.triggers.pictures import read_folder

    plan = plan_of(registered)
    if plan is None or plan.source != "owner":
        raise UsageError(f"{folder}: this registration has no trigger images of the owner's own")
    return in_order(read_folder(folder, plan.shape), plan)


def read_transcript(path: Path) -> transcripts.Transcript:
    """A transcript file. Raises `FormatError` for anything else, such as the transcript of a probe."""
    if read_start(path, len(FIRST_BYTES)) == FIRST_BYTES:
        raise FormatError(
            f"{path}: made by `ticketguard probe`: judge it with verify --transcript, or ask through `transcript queries`"
        )
    data = read_bytes(path, limit=ENVELOPE_LIMIT)
    with named(str(path)):
        return transcripts.parse(data)


def read_stamp(path: Path, payload: bytes, roots: Path | None) -> Stamp | None:
    """The time stamp beside a registration, when there is one and roots are pinned; an unpinned one says nothing."""
    if roots is None:
        return None
    # Read in any case: a judge who pins by a file that holds no certificate should hear of it.
    pinned = timestamps.load_roots(roots)
    return timestamps.read_stamp(path, payload, pinned) if is_there(path) else None


def show_numbers(verdict: Verdict) -> None:
    """Print both numbers, the bar, every test and every note of a verdict, a blank line around each."""
    from ticketguard.report.text import evidence_table, notes_table, numbers_table

    show("", numbers_table(verdict), "", evidence_table(verdict.evidence, verdict.bar_bits), "")
    if verdict.notes:
        show(notes_table(verdict.notes), "")


def control_files(paths: Sequence[Path], digests: Sequence[str]) -> dict[str, str]:
    """Names of control files by hex digest; `digests`: of what was read from the `paths`."""
    return {digest: str(path) for path, digest in zip(paths, digests, strict=True)}


def require_controls(case: Case, names: Mapping[str, str]) -> None:
    """Raise `UsageError` for a control that is the suspect or of the claim itself; `names`: of the controls, by digest.

    The claimant's mark in the claimant's own files would void a claim about which nothing is wrong.
    """
    own = {
        case.claim.model: "the claim's own model, which carries the mark",
        case.claim.ticket: "the claim's own ticket, which carries the mark",
    }
    if case.suspect is not None or case.transcript is not None:
        own[case.suspect_digest] = "the suspect itself"
    for digest, what in own.items():
        if digest in names:
            raise UsageError(
                f"{names[digest]}: this control is {what}: name models that have nothing to do with the claim"
            )


def show_checks(checks: Sequence[Check], files: Mapping[str, str], controls: Iterable[Verdict] = ()) -> None:
    """Print every check on a line, controls under the names that `files` has by digest.

    Below each of the `controls` (their verdicts in order) goes what was not read of it.
    """
    from ticketguard.report.words import check_words

    verdicts = iter(controls)
    for check in checks:
        click.echo(f"  {'ok  ' if check.passed else 'FAIL'}  {check.name}: {visible(check_words(check, files))}")
        verdict = next(verdicts, None) if check.name == "control" else None
        for note in () if verdict is None else verdict.notes:
            if note.startswith(UNREAD):
                click.echo(f"        {visible(note)}")
