"""Every malformed file is refused by one line of a project error, whatever a stranger put in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.malformed import DOCUMENTS, SAFETENSORS, SHARDED, TORCH, Malformed, valid
from tests.thinned import thinned
from ticketguard.errors import FormatError, StorageError, TicketguardError
from ticketguard.storage.documents import read_csv, read_json, read_jsonl, read_npy
from ticketguard.storage.suspects import read_any

READERS: dict[str, Callable[[Path], object]] = {
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".npy": read_npy,
}
# One child process costs two seconds, so the fast suite starts few of them.
FAST_TORCH = ("code in a pickle", "declares 40 GB", "text", "nothing")


def check(case: Malformed, read: Callable[[Path], object], folder: Path) -> None:
    path = case.write(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises((FormatError, StorageError)) as refused:
        read(path)
    message = str(refused.value)
    assert "\n" not in message
    assert message.isprintable()
    assert str(folder) in message
    assert re.search(case.says, message), message
    assert len(message) - len(str(path)) < 400
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("name", thinned(SAFETENSORS, slow=["65,537 tensors"]))
def test_a_malformed_tensor_file_is_refused(name: str, tmp_path: Path) -> None:
    check(SAFETENSORS[name], read_any, tmp_path)


@pytest.mark.parametrize("name", SHARDED)
def test_a_malformed_sharded_checkpoint_is_refused(name: str, tmp_path: Path) -> None:
    check(SHARDED[name], read_any, tmp_path)


@pytest.mark.parametrize(
    "name", [name if name in FAST_TORCH else pytest.param(name, marks=pytest.mark.slow) for name in TORCH]
)
def test_a_malformed_torch_file_is_refused(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check(TORCH[name], read_any, tmp_path)
    assert "ran code" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_malformed_document_is_refused(name: str, tmp_path: Path) -> None:
    case = DOCUMENTS[name]
    check(case, READERS[Path(case.main).suffix], tmp_path)


def outcome(path: Path) -> str:
    """What reading says: one line in either case; any other exception is a failure of the test."""
    try:
        file = read_any(path)
        return f"read {[file[name].size for name in file]}"
    except TicketguardError as error:
        return str(error)


@pytest.mark.parametrize("position", range(0, len(valid()), 3))
def test_one_changed_byte_never_escapes_the_project_errors(position: int, tmp_path: Path) -> None:
    path = tmp_path / "suspect.safetensors"
    for value in (0x00, 0x22, 0x39, 0x7B, 0xFF):
        data = bytearray(valid())
        data[position] = value
        path.write_bytes(data)
        assert outcome(path).isprintable()
