"""Whole files, all or nothing: a write shows up complete or not at all, a read never exceeds its limit."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from ticketguard.errors import FormatError, StorageError, UsageError

# What a file system says that has no locks: some network mounts, and folders shared with a virtual machine.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
RUN_LOCK = "run.lock"


def write_bytes(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replace the file at `path` by `data` atomically, with permission bits `mode` (default: what the umask leaves).

    Raises `StorageError`, and leaves whatever was there, when the folder or the file cannot be written.
    """
    with replacing(path, mode=mode) as handle:
        handle.write(data)


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends well, and vanishes when it does not.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and are then renamed. A symbolic link
    is replaced, never followed. Raises `StorageError` for everything the operating system refuses.
    """
    path = Path(path)
    require_writable(path)
    # Without the file's own name: that may be as long as names can be.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                if mode is not None:
                    os.fchmod(handle.fileno(), mode)
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            # Whatever stopped the write, Ctrl-C included, must not leave a stray file; after the rename there is none.
            with suppress(OSError):
                os.unlink(temporary)
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {reason(error)}") from error


@contextmanager
def reserved(paths: Iterable[Path]) -> Iterator[None]:
    """Take the names `paths`, under which nothing may be, for the block to write there: of two processes one gets them.

    They go again, with what was written, when the block fails. Until it writes them the files are empty, and their owner's
    alone. Raises `UsageError` for a name that is taken, and `StorageError` when nothing can be written there.
    """
    with ExitStack() as stack:
        for path in paths:
            require_possible(path)
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            except FileExistsError as error:
                raise UsageError(f"{path} exists already, and is not replaced: choose another name") from error
            except OSError as error:
                raise StorageError(f"{path}: cannot be written: {reason(error)}") from error
            stack.callback(remove, path)
        yield
        stack.pop_all()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait until no other process holds `folder`, and hold it for the block: for files that are read, changed and written back.

    The lock is on the folder itself, so that it leaves no file behind, and ends with its process. Only for work of moments:
    see `running`. Raises `StorageError` when the folder cannot be locked.
    """
    with _held(folder, os.O_RDONLY | os.O_DIRECTORY):
        yield


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Hold `folder` for work of hours: another `running` there raises `UsageError`, and an `exclusive` goes on.

    The lock is on a file `RUN_LOCK` in it, which goes at the end; one that a killed process left is taken over. On a file
    system without locks nothing is held. Raises `StorageError` when the file cannot be made.
    """
    path = folder / RUN_LOCK
    with _held(path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK, taken=f"another process works in {folder}"):
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(path)


@contextmanager
def exclusive_file(path: Path) -> Iterator[None]:
    """Hold the file at `path` alone for the block, made when missing, and gone after it when nothing was written.

    For a file that grows: one that is replaced would be another file. On a file system without locks nothing is held. Raises
    `UsageError` when another process holds it, and `StorageError` when it cannot be locked.
    """
    new = not is_there(path)
    # Without waiting, so that a named pipe is refused later instead of waited for here.
    with _held(path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK, taken=f"another process works on {path}"):
        try:
            yield
        finally:
            with suppress(OSError):
                if new and not os.stat(path).st_size:
                    os.unlink(path)


@contextmanager
def _held(path: Path, flags: int, *, taken: str | None = None) -> Iterator[None]:
    """An open file or folder under a lock of its own. Without `taken`, which says that somebody else has it, waits for it."""
    require_possible(path)
    try:
        descriptor, locked = _locked(path, flags, wait=taken is None)
    except BlockingIOError as error:
        raise UsageError(taken or f"{path}: another process has it") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be locked: {reason(error)}") from error
    try:
        yield
    finally:
        # Not only closed: a worker that was forked in between holds the same lock.
        if locked:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _locked(path: Path, flags: int, *, wait: bool) -> tuple[int, bool]:
    """A descriptor of what is at `path`, and whether it is locked; not where there are no locks and no `wait`."""
    while True:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Who held the lock before may have removed the file: whoever makes it anew would lock another one.
            if _is_at(descriptor, path):
                return descriptor, True
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in NO_LOCKS and not wait:
                return descriptor, False
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is what `path` names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises `StorageError` when it cannot be read and `FormatError` when it is larger; no more than the limit is loaded.
    """
    try:
        with open_regular(path) as handle:
            size = os.fstat(handle.fileno()).st_size
            # Not `limit` at once: a buffer of that size is set aside first, however small the file is.
            data = handle.read(size + 1) if size <= limit else b""
            if size < len(data) <= limit:
                data += handle.read(limit + 1 - len(data))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {reason(error)}") from error
    if size > limit or len(data) > limit:
        raise FormatError(f"{path}: larger than the {limit} bytes allowed for such a file")
    return data


def read_start(path: Path, size: int) -> bytes:
    """The first `size` bytes of a regular file, or all that it has: what a file is, before anything is done with it."""
    try:
        with open_regular(path) as handle:
            return handle.read(size)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {reason(error)}") from error


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a regular file of any size, read in pieces. Raises `StorageError` when it cannot be read."""
    try:
        with open_regular(path) as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {reason(error)}") from error


def open_regular(path: Path) -> BufferedReader:
    """Open an existing regular file for reading; raises `StorageError` for anything else.

    Opening does not block, so a named pipe where a file is expected is refused instead of waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        handle = os.fdopen(descriptor, "rb") if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
        if handle is None:
            os.close(descriptor)
    except ValueError as error:
        raise StorageError(f"{str(path)!a}: not a possible file name") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {reason(error)}") from error
    if handle is None:
        raise StorageError(f"{path}: not a regular file")
    return handle


def remove(path: Path) -> None:
    """Take a file away; one that is not there is fine. Raises `StorageError` when that is impossible."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path}: cannot be removed: {reason(error)}") from error


def remove_folder(path: Path) -> None:
    """Take an empty folder away; raises `StorageError` when that is impossible."""
    try:
        os.rmdir(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be removed: {reason(error)}") from error


def make_folder(path: Path) -> Path:
    """Create a folder and its parents where missing, and return it; raises `StorageError` when that is impossible."""
    require_possible(path)
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be created: {reason(error)}") from error
    return Path(path)


def is_there(path: Path) -> bool:
    """Whether something is at `path` (a link that leads nowhere is nothing).

    Where nobody may look, or for a name that no file can have, the answer is no, where `pathlib` would raise: opening or
    writing it then says why.
    """
    return os.path.exists(path)


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; where nobody may look it is none, as in `is_there`."""
    return os.path.isdir(path)


def listed(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name; raises `StorageError` when it cannot be read."""
    try:
        return sorted(Path(folder).iterdir())
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read: {reason(error)}") from error


def reason(error: OSError) -> str:
    """The operating system's words for an error, in lower case and without the path."""
    return (error.strerror or type(error).__name__).lower()


def require_possible(path: Path) -> None:
    """Raise `StorageError` for a name that no file can have, for which `pathlib` raises errors of its own."""
    if "\0" in str(path):
        raise StorageError(f"{str(path)!a}: not a possible file name")


def require_writable(path: Path) -> None:
    """Raise `StorageError` where a write would fail, or a rename destroy a folder, a device, a file somebody made read-only.

    Every write asks this first. Whoever has something to spend before the write, hours or a leaf, asks it before that.
    """
    require_possible(path)
    try:
        folder = os.stat(path.parent).st_mode
        target = _mode(path)
    except OSError as error:
        hint = f"; is the folder {path.parent} there?" if isinstance(error, FileNotFoundError) else ""
        raise StorageError(f"{path}: cannot be written: {reason(error)}{hint}") from error
    if not stat.S_ISDIR(folder):
        raise StorageError(f"{path}: cannot be written: {path.parent} is not a folder")
    if target is not None and not (stat.S_ISREG(target) or stat.S_ISLNK(target)):
        raise StorageError(f"{path}: cannot be written: something that is not a regular file is there")
    # The write bits are read and not only tried: root may write anywhere, but whoever removed the bits meant it.
    if not folder & 0o222 or (target is not None and not target & 0o222):
        raise StorageError(f"{path}: cannot be written: it is read-only")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StorageError(f"{path}: cannot be written: permission denied")


def _mode(path: Path) -> int | None:
    """Type and permission bits of whatever is at `path`, a link itself; None for nothing."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    """Flush a folder, so that a rename in it survives a power cut; some file systems cannot, and need not."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
