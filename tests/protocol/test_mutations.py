"""Whatever is changed in what was signed: refused with one line and exit code 2; never a crash, never accepted."""

import copy
import random
from dataclasses import replace

import pytest

from ticketguard.claims import canonical, envelope, ownership, registration, reveal
from ticketguard.commands import run
from ticketguard.errors import TicketguardError
from ticketguard.verify import verdicts
from ticketguard.verify.judge import judge

WINDOW = 1024
MUTATIONS = 2000
# Values that parsers like to stumble over.
ODD = [
    None, True, False, 0, -1, 1, 2**53 - 1, 1.5, -0.0, 1e300, "", "0", "00" * 32, "ab" * 32, "A" * 600, "\u0000", "é", "AAAA",
    [], {}, [[]], [None], {"": None}, {"sha256": "00" * 32}, [1] * 70, "2026-06-01T00:00:00Z", "none", "rfc3161",
]  # fmt: skip


@pytest.fixture(scope="module")
def suspect(world, owner):
    return world.tensors_of(owner.model)


@pytest.fixture(scope="module")
def case(owner, suspect):
    return owner.case(suspect)


@pytest.fixture(scope="module")
def envelopes(world, owner, case):
    from ticketguard.verify.judge import digest_of

    _, shown = owner.reveal_for(digest_of(case.suspect))
    _, verdict = verdicts.sign(case, world.key_of(200), nonce=world.NONCE, now=world.NOW)
    return {
        "registration": owner.registered.envelope,
        "claim": owner.claim_envelope,
        "reveal": shown,
        "verdict": verdict,
    }


READERS = {
    "registration": lambda payload, case: registration.parse(payload),
    "claim": lambda payload, case: ownership.parse(payload),
    "reveal": lambda payload, case: reveal.parse(payload),
}


@pytest.mark.parametrize("name", ["registration", "claim", "reveal", "verdict"])
@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_every_byte_flip_in_a_window_is_refused(envelopes, owner, world, name, place):
    data = envelopes[name]
    key = world.key_of(200).public if name == "verdict" else owner.key.public
    start = {"start": 0, "middle": max(0, len(data) // 2 - WINDOW // 2), "end": max(0, len(data) - WINDOW)}[place]
    generator = random.Random(1)
    for position in range(start, min(start + WINDOW, len(data))):
        flipped = bytearray(data)
        flipped[position] ^= generator.randrange(1, 256)
        for public in (key, None):
            with pytest.raises(TicketguardError) as caught:
                envelope.open(bytes(flipped), public)
            assert "\n" not in str(caught.value)


def places(value, path=()):
    """Paths to every value inside a JSON document."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def mutate(document, generator):
    """One structural change: a value replaced, deleted, added, doubled, renamed or reordered."""
    changed = copy.deepcopy(document)
    path = generator.choice([path for path in places(changed) if path])
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    last = path[-1]
    kind = generator.choice(["replace", "delete", "add", "swap", "text"])
    if kind == "replace":
        parent[last] = copy.deepcopy(generator.choice(ODD))
    elif kind == "delete":
        del parent[last]
    elif kind == "add" and isinstance(parent, dict):
        parent["extra"] = copy.deepcopy(generator.choice(ODD))
    elif kind == "add":
        parent.insert(last, copy.deepcopy(parent[last]))
    elif kind == "swap":
        other = generator.choice([path for path in places(document) if path])
        source = document
        for key in other:
            source = source[key]
        parent[last] = copy.deepcopy(source)
    elif isinstance(parent[last], str) and parent[last]:
        text = parent[last]
        at = generator.randrange(len(text))
        parent[last] = text[:at] + generator.choice("0123456789abcdefXYZ+/=") + text[at + 1 :]
    elif isinstance(parent[last], int):
        parent[last] = parent[last] + generator.choice([-1, 1])
    return changed


@pytest.mark.parametrize("name", ["registration", "claim", "reveal"])
def test_structural_mutations_never_crash_and_never_pass(world, case, owner, envelopes, name):
    """Signed again by the key holder itself, the strongest forger: the statement must fail to parse, or fail in judgement."""
    original = canonical.parse(envelope.open(envelopes[name]).payload)
    generator = random.Random(name)
    tried = parsed = 0
    while tried < MUTATIONS // 3 + 1:
        changed = mutate(original, generator)
        if changed == original:
            continue
        tried += 1
        payload = canonical.encode(changed)
        message = refusal(lambda payload=payload: READERS[name](payload, case))
        if message is None:
            parsed += 1
            value = READERS[name](payload, case)
            assert value.payload() == payload
            if name == "reveal" and only_the_owners_choice_differs(value, case.reveal):
                continue
            forged = replace(case, **{name: value, f"{name}_payload": payload})
            message = refusal(lambda forged=forged: judge(forged, nonce=world.NONCE, now=world.NOW))
        assert message is not None, changed
        assert "\n" not in message
    assert parsed > 0


def test_mutated_verdicts_do_not_recompute(world, case, envelopes):
    """Signed again by the judge: other numbers, reasons or digests than the files give are refused."""
    key = world.key_of(200)
    original = canonical.parse(envelope.open(envelopes["verdict"]).payload)
    generator = random.Random(6)
    for _ in range(150):
        changed = mutate(original, generator)
        if the_judges_words_apart(changed) == the_judges_words_apart(original):
            continue
        signed = envelope.sign(canonical.encode(changed), key)
        message = refusal(lambda signed=signed: verdicts.recompute(signed, case))
        assert message is not None, changed
        assert "\n" not in message


def the_judges_words_apart(statement):
    """The statement without the time and the supplier, which are the judge's own word."""
    copied = copy.deepcopy(statement)
    predicate = copied.get("predicate")
    if isinstance(predicate, dict):
        if isinstance(predicate.get("judgedAt"), str) and predicate["judgedAt"].startswith("2026-0"):
            predicate["judgedAt"] = ""
        if isinstance(predicate.get("verdict"), dict) and isinstance(predicate["verdict"].get("suppliedBy"), str):
            predicate["verdict"]["suppliedBy"] = ""
    return copied


def refusal(call):
    """The message of the project's own error that `call` raises, or None; anything else escapes."""
    try:
        call()
    except TicketguardError as problem:
        return str(problem)
    return None


def only_the_owners_choice_differs(one, other):
    """Expiry and recipient are the owner's to choose: a reveal that differs there alone is another good reveal."""
    return replace(one, expires=other.expires, recipient=other.recipient) == other


def test_mutated_wrappers_are_refused(envelopes, owner):
    generator = random.Random(3)
    for data in envelopes.values():
        original = canonical.parse(data)
        for _ in range(150):
            changed = mutate(original, generator)
            if changed == original:
                continue
            for public in (None, owner.key.public):
                with pytest.raises(TicketguardError):
                    envelope.open(canonical.encode(changed), public)


def test_truncations_and_garbage_are_refused(envelopes):
    generator = random.Random(4)
    for data in envelopes.values():
        for length in (0, 1, 10, len(data) // 2, len(data) - 1):
            with pytest.raises(TicketguardError):
                envelope.open(data[:length])
    for _ in range(300):
        with pytest.raises(TicketguardError):
            envelope.open(generator.randbytes(generator.randrange(200)))


def test_commands_answer_mutations_with_one_line(tmp_path, owner, world, envelopes, capsys):
    """A sample through the whole program: exit code 2, one line, no traceback."""
    from ticketguard.storage.tensors import write_tensors
    from ticketguard.tickets import write_ticket

    files = {"registration": "registration.dsse.json", "claim": "claim.dsse.json", "reveal": "reveal.dsse.json"}
    for name, file in files.items():
        (tmp_path / file).write_bytes(envelopes[name])
    write_ticket(tmp_path / "ticket.safetensors", owner.model)
    write_tensors(tmp_path / "model.safetensors", dict(owner.model.weights), {})
    model, reveal_file = str(tmp_path / "model.safetensors"), str(tmp_path / "reveal.dsse.json")
    arguments = ["audit", str(tmp_path), "--reveal", reveal_file, "--suspect", model]
    assert run(arguments) == 0
    generator = random.Random(5)
    for name, file in files.items():
        for _ in range(8):
            changed = mutate(canonical.parse(envelope.open(envelopes[name]).payload), generator)
            payload = canonical.encode(changed)
            if payload == envelope.open(envelopes[name]).payload:
                continue
            wrapper = canonical.parse(envelopes[name])
            wrapper["payload"] = __import__("base64").b64encode(payload).decode()
            (tmp_path / file).write_bytes(canonical.encode(wrapper))
            capsys.readouterr()
            assert run(arguments) == 2
            assert len(capsys.readouterr().err.strip().splitlines()) == 1
        (tmp_path / file).write_bytes(envelopes[name])
