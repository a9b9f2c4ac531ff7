"""Atomic writes: all or nothing, right permissions, and nothing destroyed that is not a plain file."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ticketguard.errors import FormatError, StorageError, UsageError
from ticketguard.storage.atomic import (
    RUN_LOCK,
    exclusive,
    exclusive_file,
    is_folder,
    is_there,
    listed,
    make_folder,
    open_regular,
    read_bytes,
    remove,
    remove_folder,
    replacing,
    require_writable,
    reserved,
    running,
    sha256_of,
    write_bytes,
)


def test_a_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"one")
    write_bytes(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("name", ["x" * 255, "\U0001f600" * 63])
def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"one")
    assert os.listdir(tmp_path) == [name]


def test_the_umask_decides_without_a_mode(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
        write_bytes(tmp_path / "b", b"", mode=0o666)
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, OSError(28, "No space left on device")])
def test_an_interrupted_write_changes_nothing(tmp_path: Path, interruption: BaseException) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    expected = StorageError if isinstance(interruption, OSError) else interruption

    def interrupted_write() -> None:
        with replacing(path) as handle:
            handle.write(b"new")
            raise interruption

    with pytest.raises(expected):
        interrupted_write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_what_cannot_be_removed_says_so(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"")
    remove(tmp_path / "a")
    remove(tmp_path / "a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder: cannot be removed"):
        remove(tmp_path / "folder")
    remove_folder(tmp_path / "folder")
    with pytest.raises(StorageError, match="folder: cannot be removed"):
        remove_folder(tmp_path / "folder")


def test_a_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("target")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"kept"
    assert (tmp_path / "link").read_bytes() == b"new"
    assert not (tmp_path / "link").is_symlink()


def test_targets_that_must_not_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "fixed").write_bytes(b"fixed")
    (tmp_path / "fixed").chmod(0o444)
    (tmp_path / "closed").mkdir(mode=0o555)
    for name, words in {
        "folder": "not a regular file",
        "pipe": "not a regular file",
        "fixed": "read-only",
        "closed/new": "read-only",
        "gone/new": "is the folder .* there",
        "fixed/new": "not a directory|not a folder",
        "a\0b": "not a possible file name",
        "x" * 300: "too long",
    }.items():
        with pytest.raises(StorageError, match=words):
            write_bytes(tmp_path / name, b"new")
    assert (tmp_path / "fixed").read_bytes() == b"fixed"
    assert sorted(os.listdir(tmp_path)) == ["closed", "fixed", "folder", "pipe"]


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(StorageError, match="not a regular file"):
        write_bytes(Path("/dev/null"), b"")
    assert Path("/dev/null").is_char_device()


def test_reading_is_limited_and_never_waits(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    assert read_bytes(tmp_path / "a", limit=5) == b"12345"
    with pytest.raises(FormatError, match="larger than the 4 bytes"):
        read_bytes(tmp_path / "a", limit=4)
    for name, words in {
        "gone": "no such file",
        "pipe": "not a regular file",
        ".": "regular|directory",
        "a\0": "possible",
    }.items():
        with pytest.raises(StorageError, match=words):
            open_regular(tmp_path / name)


def test_folders(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be created"):
        make_folder(tmp_path / "file")


def test_what_cannot_be_looked_at_is_not_there(tmp_path: Path) -> None:
    """pathlib raises for some of these names, and answers for others: here the answer is always no."""
    (tmp_path / "dangling").symlink_to("nowhere")
    for path in (tmp_path / ("n" * 300), tmp_path / "a\0b", tmp_path / "none", tmp_path / "dangling"):
        assert not is_there(path)
        assert not is_folder(path)
    assert is_there(tmp_path)
    assert is_folder(tmp_path)


def test_a_folder_is_listed_in_order_or_refused(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert listed(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(StorageError, match="not a directory"):
        listed(tmp_path / "a")


def test_a_name_too_long_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="name too long"):
        require_writable(tmp_path / ("n" * 300))
    with pytest.raises(StorageError, match="not a possible file name"):
        make_folder(tmp_path / "a\0b")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody without rights")
def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    """Not only what is read-only for all: whoever has no right to write hears of it before, and cannot look inside either."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").touch()
    code = (
        "import os, sys; from pathlib import Path; from ticketguard.errors import StorageError\n"
        "from ticketguard.storage.atomic import is_there, listed, require_writable; os.setuid(65534)\n"
        "folder = Path(sys.argv[1]); print(is_there(folder / 'file'))\n"
        "for act in (lambda: require_writable(folder / 'new'), lambda: listed(folder)):\n"
        "    try: act()\n"
        "    except StorageError as error: print(error)\n"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    result = subprocess.run([sys.executable, "-c", code, str(closed)], capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines()[0] == "False", result.stderr
    assert [line.rpartition(": ")[2] for line in result.stdout.splitlines()[1:]] == ["permission denied"] * 2


def test_an_exclusive_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    entered = threading.Event()

    def enter() -> None:
        with exclusive(tmp_path):
            entered.set()

    other = threading.Thread(target=enter)
    with exclusive(tmp_path):
        other.start()
        assert not entered.wait(0.2)
    assert entered.wait(30)
    other.join()
    assert list(tmp_path.iterdir()) == []


def test_of_two_runs_in_a_folder_the_second_is_told_and_short_work_goes_on(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match=f"another process works in {tmp_path}")
    with running(tmp_path), exclusive(tmp_path), refused, running(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    # As a killed process leaves it.
    (tmp_path / RUN_LOCK).touch()
    with running(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_taken_again(tmp_path: Path, monkeypatch) -> None:
    """Its holder removes it at the end, while another has opened it and not locked it yet."""
    path, lock, missed = tmp_path / "log", fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if not missed:
            missed.append(descriptor)
            path.unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with exclusive_file(path):
        assert path.exists()
        with pytest.raises(UsageError, match="another process works on"), exclusive_file(path):
            pass
    assert missed
    assert not path.exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_long_work_goes_on_and_what_must_wait_is_refused(
    tmp_path: Path, monkeypatch, number: int
) -> None:
    def none(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with running(tmp_path), exclusive_file(tmp_path / "log"):
        (tmp_path / "log").write_text("a line")
    assert os.listdir(tmp_path) == ["log"]
    with pytest.raises(StorageError, match="cannot be locked"), exclusive(tmp_path):
        pass


def test_reserved_names_are_nobody_elses_and_go_when_the_block_fails(tmp_path: Path) -> None:
    key, public = tmp_path / "key", tmp_path / "pub"
    with reserved([key]):
        assert (key.stat().st_mode & 0o777, key.read_bytes()) == (0o600, b"")
        with pytest.raises(UsageError, match="key exists already"), reserved([public, key]):
            pass
        assert not public.exists()
        write_bytes(key, b"first")

    def fail() -> None:
        with reserved([public]):
            write_bytes(public, b"half")
            raise StorageError("full")

    with pytest.raises(StorageError, match="full"):
        fail()
    assert (os.listdir(tmp_path), key.read_bytes()) == (["key"], b"first")
    for path, words in ((tmp_path / "none" / "key", "no such file"), (tmp_path / "a\0b", "possible")):
        with pytest.raises(StorageError, match=words), reserved([path]):
            pass


def test_a_lock_ends_with_its_block_though_a_fork_holds_the_folder_open(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with exclusive(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    with exclusive(tmp_path):
        os.close(writing)
    os.waitpid(child, 0)
    os.close(reading)


def test_an_exclusive_file_stays_only_when_something_was_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with exclusive_file(path):
        assert path.exists()
        with pytest.raises(UsageError, match="another process works on"), exclusive_file(path):
            pass
    assert not path.exists()
    with exclusive_file(path):
        path.write_text("a line")
    with exclusive_file(path):
        pass
    assert path.read_text() == "a line"
    (tmp_path / "empty").touch()
    with exclusive_file(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").exists()
    with pytest.raises(StorageError, match="cannot be locked"), exclusive_file(tmp_path / "missing" / "log"):
        pass


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_cannot_be_exclusive(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be locked"), exclusive(tmp_path / name):
        pass


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)) * 5000)
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(StorageError, match="missing"):
        sha256_of(tmp_path / "missing")
