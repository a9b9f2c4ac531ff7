"""The errors that a user may cause or meet: each becomes one line on standard error and exit code 2.

Anything else that escapes is a bug of ours and shows its traceback (exit code 3). A statistical outcome is never an error:
it is a value (`ticketguard.evidence.Verdict`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class TicketguardError(Exception):
    """Base of every error with a one-line message: what is wrong, where, and what to do."""


class UsageError(TicketguardError):
    """The request itself is impossible: an option out of range, an unknown name, options that contradict each other."""


class FormatError(TicketguardError):
    """A file or document is not what it claims to be: truncated, malformed, oversized or of an unknown version."""


class StorageError(TicketguardError):
    """A path cannot be read or written: missing, read-only, a directory where a file is expected."""


class AuthenticityError(TicketguardError):
    """Cryptography says no: a bad signature, a wrong key, a wrong passphrase, a digest that does not agree."""


class CapacityError(TicketguardError):
    """A ticket is too small to carry the signature that was asked for."""


class DataError(TicketguardError):
    """Data that the work needs is missing or damaged: a data set, a prediction file, a class name."""


@contextmanager
def named(where: str) -> Iterator[None]:
    """Put `where`, a file's name, before the `FormatError` of a reader that is given bytes and cannot know it."""
    try:
        yield
    except FormatError as problem:
        raise FormatError(f"{where}: {problem}") from problem
