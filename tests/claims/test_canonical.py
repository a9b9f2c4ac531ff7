import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketguard.claims import canonical
from ticketguard.errors import FormatError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


@given(JSON)
def test_parse_inverts_encode(value):
    assert canonical.parse(canonical.encode(value)) == value


def test_encoding_is_rfc_8785_not_json_dumps():
    assert canonical.encode({"b": [1.0, 1e30], "a": "é", "\u20ac": None}) == '{"a":"é","b":[1,1e+30],"€":null}'.encode()


def test_nesting_counts_brackets_outside_strings_only():
    assert canonical.parse(b'["' + b"[" * 100 + b'\\"]"]') == ["[" * 100 + '"]']
    assert canonical.parse(b"[" * 32 + b"]" * 32)


@pytest.mark.parametrize("piece", [b'\\"', b'"\\', b'\\\n"', b'["\\"', b'\\\\"'])
def test_quotes_that_nothing_closes_take_linear_work(piece):
    """A mebibyte of them: a search that begins again at every quote would take hours."""
    with pytest.raises(FormatError):
        canonical.parse(piece * (canonical.MOST_BYTES // len(piece)))


@pytest.mark.parametrize("start", [b'"', b'"\\', b'"\\"', b'"\\\n'])
def test_brackets_behind_a_quote_that_nothing_closes_are_text(start):
    with pytest.raises(FormatError, match="not JSON"):
        canonical.parse(start + b"[" * 100)
    with pytest.raises(FormatError, match="deeper"):
        canonical.parse(b"[" * 33 + start)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b'{"a":1,"a":1}', "key 'a' appears twice"),
        (b'{"a":1,"\\u0061":2}', "key 'a' appears twice"),
        (b"NaN", "not a JSON number"),
        (b"[Infinity]", "not a JSON number"),
        (b"[-Infinity]", "not a JSON number"),
        (b"1e999", "1e999 is out of range"),
        (b"9007199254740992", "2\\^53"),
        (b"-9007199254740992", "2\\^53"),
        (b"1" * 100_000, "2\\^53"),
        (b"[" * 33 + b"]" * 33, "deeper"),
        (b"[" * 500_000, "deeper"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "deeper"),
        (b'"' + b"x" * (1 << 20) + b'"', "more than"),
        (b'"\\ud800"', "Unicode"),
        (b'{"\\udfff":1}', "Unicode"),
        (b'"\xff"', "Unicode"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b'"a\nb"', "not JSON"),
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(document, words):
    with pytest.raises(FormatError, match=words) as caught:
        canonical.parse(document, where="claim.json")
    assert str(caught.value).startswith("claim.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, "\ud800", {"a": object()}, {1: 2}])
def test_what_rfc_8785_cannot_say_is_refused(value):
    with pytest.raises(FormatError):
        canonical.encode(value)


def test_largest_integers_and_documents_pass():
    assert canonical.parse(b"9007199254740991") == 2**53 - 1
    text = "x" * ((1 << 20) - 2)
    assert canonical.parse(json.dumps(text).encode()) == text
