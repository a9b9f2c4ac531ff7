"""Words written by strangers (file names, owners, notes), made harmless to look at on a screen, a page or in a table."""

from __future__ import annotations

MOST = 1_000


def visible(text: str, *, most: int = MOST) -> str:
    r"""`text` on one line with every character that does not print written as its escape, cut after `most` characters.

    Control characters (terminal escapes, line ends), bidirectional overrides and lone surrogates (from file names that are no
    UTF-8) would change what a reader sees, so they appear as `\x1b`, `\u202e`, `\udcff`. Cutting says how much is missing.
    """
    shown = "".join(_escaped(letter) for letter in text[:most])
    return shown if len(text) <= most else f"{shown} … ({len(text) - most:,} characters more)"


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
