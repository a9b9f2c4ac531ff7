import copy

import pytest

from ticketguard.claims import statements
from ticketguard.errors import FormatError

GOOD = statements.statement([("frame", "ab" * 32), ("model", "cd" * 32)], "example", {"x": 1})


def test_reading_inverts_writing():
    assert statements.predicate(GOOD, "example") == {"x": 1}
    assert statements.subjects(GOOD) == {"frame": "ab" * 32, "model": "cd" * 32}


def changed(*path, to):
    other = copy.deepcopy(GOOD)
    *inner, last = path
    target = other
    for key in inner:
        target = target[key]
    target[last] = to
    return other


@pytest.mark.parametrize(
    "bad",
    [
        [],
        None,
        {},
        {**GOOD, "extra": 1},
        changed("_type", to="https://in-toto.io/Statement/v0.1"),
        changed("predicateType", to="urn:ticketguard:other/v1"),
        changed("predicateType", to=["urn:ticketguard:example/v1"]),
        changed("predicate", to=[]),
        changed("subject", to=[]),
        changed("subject", to={}),
        changed("subject", to=GOOD["subject"][:1] * 65),
        changed("subject", to=GOOD["subject"][:1] * 2),
        changed("subject", 0, to="frame"),
        changed("subject", 0, "name", to=1),
        changed("subject", 0, "uri", to="x"),
        changed("subject", 0, "digest", to={}),
        changed("subject", 0, "digest", "sha512", to="ab" * 64),
        changed("subject", 0, "digest", "sha256", to="AB" * 32),
        changed("subject", 0, "digest", "sha256", to="ab" * 31),
        changed("subject", 0, "digest", "sha256", to=7),
    ],
)
def test_other_shapes_are_refused(bad):
    with pytest.raises(FormatError):
        statements.predicate(bad, "example")


@pytest.mark.parametrize(
    "text", ["QQ", "QR==", "QQ==\n", " QQ==", "Q Q==", "QQ=", "QQ===", "Q-==", "é", None, 1, b"QQ=="]
)
def test_only_canonical_base64_is_read(text):
    assert statements.decode_bytes("QQ==") == b"A"
    with pytest.raises(FormatError, match="base64"):
        statements.decode_bytes(text)
