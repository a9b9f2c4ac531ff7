"""`ticketguard reveal`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import click

from ticketguard.bundle import Bundle
from ticketguard.claims import hpke, keys, reveal
from ticketguard.claims.opening import Opening
from ticketguard.claims.registration import GRINDING_BITS
from ticketguard.claims.secret import Secret, write_secret
from ticketguard.commands.cases import read_transcript
from ticketguard.commands.common import PATH, json_option, passphrase, print_json, require_nonce, require_output
from ticketguard.errors import UsageError
from ticketguard.probe.schedule import one_leaf
from ticketguard.storage.atomic import exclusive, is_there, replacing
from ticketguard.storage.suspects import read_any
from ticketguard.storage.tensors import TensorFile
from ticketguard.triggers.plan import image_digest, required_plan
from ticketguard.triggers.render import render
from ticketguard.verify.judge import digest_of, examine_transcript
from ticketguard.verify.transcript import Transcript, answered_leaves
from ticketguard.verify.verifier import Examiner


@click.command()
@click.argument("signed", type=PATH)
@click.option("--suspect", type=PATH, help="The suspect's weights, as they were frozen.")
@click.option("--transcript", type=PATH, help="Recorded answers of a suspect service, from `transcript record`.")
@click.option("--nonce", required=True, help="The judge's nonce: 16 to 64 bytes in hexadecimal (openssl rand -hex 32).")
@click.option("--key", "key_path", type=PATH, required=True, help="The owner's secret key.")
@click.option("--to", "judge_path", type=PATH, help="The judge's .enc.pub file: only that judge can read the reveal.")
@click.option(
    "--leaf",
    type=int,
    help="Which leaf to disclose; by default the first unused one, or the one whose triggers were asked.",
)
@click.option(
    "--override",
    is_flag=True,
    help="Disclose a used leaf again (evidence after a second use can be forged), one whose triggers were not asked, or one "
    "that does not find the mark.",
)
@click.option(
    "--valid-days", type=click.IntRange(1, 3650), default=30, show_default=True, help="Days until it expires."
)
@click.option("--out", type=PATH, required=True, help="The reveal to write, a new file.")
@json_option
def command(
    signed: Path,
    suspect: Path | None,
    transcript: Path | None,
    nonce: str,
    key_path: Path,
    judge_path: Path | None,
    leaf: int | None,
    override: bool,
    valid_days: int,
    out: Path,
    as_json: bool,
) -> None:
    """Disclose one unused leaf of the secret, for one suspect and one judge.

    The secret file records the leaf as used before the reveal is written: whoever has seen a leaf can forge against it.

    Example:  ticketguard reveal signed/ --suspect suspect.safetensors --nonce $NONCE --key owner.key --out reveal.dsse.json
    """
    if suspect is not None and transcript is not None:
        raise UsageError(
            "a reveal is for one suspect, --suspect with weights or --transcript with answers: give one of them"
        )
    require_nonce(nonce)
    require_output(out, inputs=(suspect, transcript, key_path, judge_path))
    if suspect is not None:
        frozen: TensorFile | Transcript = read_any(suspect)
    elif transcript is not None:
        frozen = read_transcript(transcript)
    else:
        raise UsageError("say what the reveal is for: --suspect with weights, or --transcript with recorded answers")
    digest = digest_of(frozen) if isinstance(frozen, TensorFile) else frozen.digest
    judge = None if judge_path is None else hpke.load_public(judge_path)
    bundle, word = Bundle(signed), passphrase()
    key = keys.load_secret(key_path, word)
    # Two reveals at a time must not take the same leaf.
    with exclusive(bundle.folder):
        if is_there(out):
            raise UsageError(f"{out} exists already: revealing again would spend another leaf; choose another --out")
        opening, secret = bundle.unlock(word)
        registered = opening.registration
        if isinstance(frozen, Transcript) and not override:
            leaf = _asked(frozen, opening, secret, leaf)
        index, spent = reveal.spend_leaf(secret, registered.leaves, digest, wanted=leaf, override=override)
        if not override:
            _require_match(bundle, one_leaf(opening, index), index, frozen)
        shown, data = reveal.make(
            opening,
            index,
            key,
            kind="weights" if suspect is not None else "transcript",
            suspect=digest,
            nonce=nonce,
            expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=valid_days),
            recipient=None if judge is None else hpke.recipient_id(judge),
        )
        sealed = data if judge is None else hpke.seal(data, judge, purpose="reveal")
        # The leaf is spent once the place for the reveal is secured, and before the reveal shows up there.
        with replacing(out, mode=0o600) as handle:
            write_secret(bundle.secret, spent, word)
            handle.write(sealed)
    left = registered.leaves - len(spent.used)
    if as_json:
        expires = reveal.format_time(shown.expires)
        print_json({"reveal": str(out), "leaf": index, "suspect": digest, "expires": expires, "leavesLeft": left})
        return
    click.echo(
        f"reveal   {out}  (leaf {index}, {'encrypted to the judge' if judge else 'not encrypted: keep it to the judge'})"
    )
    click.echo(f"suspect  {shown.kind}, sha256 {digest}")
    click.echo(f"expires  {reveal.format_time(shown.expires)}")
    click.echo(f"left     {left} unused leaves of {registered.leaves}")


def _require_match(bundle: Bundle, opening: Opening, leaf: int, frozen: TensorFile | Transcript) -> None:
    """Raise `UsageError` unless this leaf finds the mark, as a judge will look for it: what is disclosed is spent."""
    if isinstance(frozen, Transcript):
        images = bundle.own_images(opening.registration)
        verdict = examine_transcript(opening, frozen, opening.rule(), own_images=images)
    else:
        examiner = Examiner(opening, reference=partial(bundle.reference, opening.registration))
        verdict = examiner.verify(frozen)
    strict = replace(opening.rule(), grinding_bits=GRINDING_BITS["none"]).bar_bits
    if verdict.decision == "MATCH" and verdict.best and verdict.best.bits < strict:
        words = f"{verdict.best.bits:.1f} bits, and without the authority of its time stamp the bar is {strict:.1f}"
        click.echo(
            f"ticketguard: leaf {leaf} has {words}: a match only for a judge who trusts that authority", err=True
        )
    if verdict.decision != "MATCH":
        raise UsageError(
            f"leaf {leaf} does not find the mark in this suspect ({verdict.decision}: {verdict.reason}): a reveal would spend "
            "it in vain; --override discloses it all the same"
        )


def _asked(transcript: Transcript, opening: Opening, secret: Secret, leaf: int | None) -> int:
    """The leaf to disclose for a transcript, `leaf` where it is given.

    Raises `UsageError` when none of its triggers has an answer: a leaf that is disclosed in vain is spent all the same.
    """
    plan = required_plan(opening.registration)
    digests = plan.digests or [image_digest(image) for image in render(opening, plan).images]
    answered = answered_leaves(transcript, digests, plan)
    best = max(answered, key=lambda index: (index not in secret.used, answered[index], -index))
    wanted = best if leaf is None else leaf
    if wanted in answered and not answered[wanted]:
        asked = [index for index, count in answered.items() if count]
        told = f"it asked those of leaf {', '.join(map(str, asked))}" if asked else "nor to one of another leaf"
        raise UsageError(
            f"the transcript has no answer to a trigger of leaf {wanted}, {told}: a reveal would spend it in vain"
        )
    return wanted
