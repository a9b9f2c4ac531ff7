"""What a service says, shown without the secrets that its request carried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from ticketguard.probe.predictor import MOST_SAID
from ticketguard.storage.hostile import visible

# Characters of a secret in a row that count as a repetition of it.
PIECE = 8
# Characters of an answer that are shown: fewer than are searched, so that no part of a secret stands at the cut.
SHOWN = 120
WITHHELD = "an answer that repeats part of the address or of a header: not shown"


class Secrets:
    """The values of a request's headers, and the query and fragment of its address."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        values = [parts.query, parts.fragment, *headers.values()]
        values += [word for pair in parse_qsl(parts.query, keep_blank_values=True) for word in pair[1:]]
        words = [word for value in headers.values() for word in value.split()[1:]]
        self._pieces = {piece for value in [*values, *words] for piece in _pieces(unquote(value))}

    def shown(self, text: str) -> str:
        """The start of `text`, safe to show; a note in its place where it repeats a piece of a secret."""
        searched = _plain(unquote(text[:MOST_SAID]))
        if any(piece in searched for piece in self._pieces):
            return WITHHELD
        return visible(text.strip(), most=SHOWN)


def _pieces(secret: str) -> Iterator[str]:
    """Every `PIECE` characters in a row of a secret, or all of a shorter one."""
    plain = _plain(secret)
    for start in range(max(1, len(plain) - PIECE + 1) if plain else 0):
        yield plain[start : start + PIECE]


def _plain(text: str) -> str:
    """Letters and digits alone: quoting, escaping and case hide nothing."""
    return "".join(filter(str.isalnum, text)).lower()
