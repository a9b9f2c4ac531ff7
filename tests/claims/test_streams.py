import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from ticketguard.claims import streams
from ticketguard.errors import FormatError, UsageError

LEAF = bytes(range(32))
STREAM = streams.Stream("test", bytes(32), 0, LEAF)


def test_every_input_of_a_stream_matters():
    others = [
        streams.Stream("test2", bytes(32), 0, LEAF),
        streams.Stream("test", b"\x01" * 32, 0, LEAF),
        streams.Stream("test", bytes(32), 1, LEAF),
        streams.Stream("test", bytes(32), 0, LEAF[::-1]),
        STREAM,
    ]
    assert len({stream.bytes(16) for stream in others}) == 5


def test_binder_depends_on_payload_and_beacon():
    assert len({streams.binder(b"a"), streams.binder(b"b"), streams.binder(b"a", b"\x01" * 32)}) == 3
    assert streams.binder(b"a") == streams.binder(b"a", bytes(32))


@given(st.integers(0, 40), st.integers(0, 40))
def test_a_stream_starts_over_at_every_call(short, more):
    assert np.array_equal(STREAM.words(short + more)[:short], STREAM.words(short))
    assert STREAM.words(3).dtype == np.uint64


@settings(max_examples=50)
@given(st.integers(1, 2**63 - 1), st.integers(0, 50), st.integers(0, 50))
def test_below_stays_in_range_and_extends(n, short, more):
    drawn = STREAM.below(n, short + more)
    assert drawn.dtype == np.int64
    assert np.array_equal(drawn[:short], STREAM.below(n, short))
    assert not len(drawn) or (drawn.min() >= 0 and drawn.max() < n)


def test_below_rejects_the_top_words_instead_of_folding_them():
    n = 2**63 - 1  # two words of 2^64 are rejected, the rest fold twice
    words = [int(word) for word in STREAM.words(64)]
    assert STREAM.below(n, 20).tolist() == [word % n for word in words if word < 2 * n][:20]
    n = 2**62 + 2**61  # a quarter of all words is rejected
    kept = [word % n for word in words if word < 2 * n]
    assert STREAM.below(n, 20).tolist() == kept[:20]
    assert kept[:20] != [word % n for word in words][:20]


def test_below_is_uniform():
    counts = np.bincount(STREAM.below(10, 20_000), minlength=10)
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("n", [0, -1, 2**63])
def test_impossible_ranges_are_refused(n):
    with pytest.raises(UsageError):
        STREAM.below(n, 1)


def test_leaves_depend_on_master_key_and_number():
    made = {streams.leaf(m, s, j) for m in (bytes(32), LEAF) for s in (b"a", b"b") for j in (0, 1)}
    assert len(made) == 8
    assert streams.commitment(LEAF, 0) != streams.commitment(LEAF, 1)
    assert len(streams.master_secret()) == 32
    assert streams.master_secret() != streams.master_secret()


def test_wrong_lengths_are_refused_and_secrets_not_shown():
    for call in (
        lambda: streams.leaf(b"short", b"", 0),
        lambda: streams.binder(b"", b"short"),
        lambda: streams.Stream("x", b"", 0, LEAF),
        lambda: streams.Stream("x", bytes(32), 0, b""),
    ):
        with pytest.raises(FormatError):
            call()
    assert repr(LEAF) not in repr(STREAM)
