"""PyTorch files: read through the child process, in every form owners save them, and never in this process."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import threading
import zipfile
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from tests.storage.malformed import repacked
from ticketguard.errors import FormatError, StorageError
from ticketguard.storage import torchchild, torchfile
from ticketguard.storage.suspects import read_any
from ticketguard.storage.tensors import UNREAD, read_tensors, write_tensors
from ticketguard.storage.torchfile import read_torch


def names(value: object) -> list[str]:
    return [name for name, _ in torchchild.named_tensors(value)]


def test_a_pruned_state_dict_reads_as_saved(tmp_path: Path) -> None:
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    prune.random_unstructured(module[0], "weight", 0.5)
    module[1].half()
    state = module.state_dict() | {"view": torch.arange(6.0).reshape(2, 3).t(), "half": torch.ones(2).bfloat16()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, tmp_path / "m.pth")
    file = read_torch(tmp_path / "m.pth")
    assert list(file) == list(state)
    assert file.path == tmp_path / "m.pth"
    for name, tensor in state.items():
        np.testing.assert_array_equal(file[name], tensor.float().numpy())
    assert file.info("half").dtype == "BF16"
    assert file.info("1.weight").dtype == "F16"


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    write_tensors(tmp_path / "really.pt", {"w": np.arange(3)}, {})
    assert read_any(tmp_path / "really.pt")["w"].tolist() == [0, 1, 2]


@pytest.mark.slow
def test_reading_the_old_form_imports_no_torch_here(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3)}, tmp_path / "w.bin", _use_new_zipfile_serialization=False)
    script = (
        "import sys; from pathlib import Path; from ticketguard.storage.suspects import read_any\n"
        "assert read_any(Path(sys.argv[1]))['w'].tolist() == [0, 1, 2]; assert 'torch' not in sys.modules"
    )
    (tmp_path / "torch.py").write_text("raise SystemExit('a file of the working folder was imported')")
    root = str(Path(torchchild.__file__).parents[2])
    command = [sys.executable, "-P", "-c", script, "w.bin"]
    subprocess.run(command, check=True, cwd=tmp_path, env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"}, timeout=60)


def test_a_child_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3)}, tmp_path / "w.pt")
    with pytest.raises(FormatError, match="not done after 0 seconds"):
        read_torch(tmp_path / "w.pt", timeout=1e-6)


def test_one_process_reads_many_files_and_a_bad_one_ends_only_its_fork(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3)}, tmp_path / "w.pt")
    torch.save({"f": FormatError}, tmp_path / "bad.pt")
    assert read_torch(tmp_path / "w.pt")["w"].tolist() == [0, 1, 2]
    process = torchfile.reader._server.process
    with pytest.raises(FormatError, match="other objects than plain weights"):
        read_torch(tmp_path / "bad.pt")
    assert read_torch(tmp_path / "w.pt")["w"].tolist() == [0, 1, 2]
    assert torchfile.reader._server.process is process


@pytest.mark.slow
def test_a_process_that_has_gone_is_started_anew(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3)}, tmp_path / "w.pt")
    read_torch(tmp_path / "w.pt")
    process = torchfile.reader._server.process
    # Gone between two looks at it: it takes the request and never answers.
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with mock.patch.object(process, "poll", return_value=None):
        assert read_torch(tmp_path / "w.pt")["w"].tolist() == [0, 1, 2]


@pytest.mark.slow
def test_an_idle_process_goes() -> None:
    script = "import ticketguard.storage.torchchild as child; child.IDLE = 0.05; child.serve()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=60) == 0


def test_waiting_for_others_is_not_the_fault_of_a_file(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3)}, tmp_path / "w.pt")
    read_torch(tmp_path / "w.pt")
    torchfile.reader._lock.acquire()
    threading.Timer(1.0, torchfile.reader._lock.release).start()
    assert read_torch(tmp_path / "w.pt", timeout=0.9)["w"].tolist() == [0, 1, 2]


def test_the_last_words_of_a_process_that_cannot_start_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"w": torch.arange(3)}, tmp_path / "w.pt")
    monkeypatch.setattr(torchfile, "reader", torchfile._Reader())
    monkeypatch.setattr(torchfile, "CHILD", "ticketguard.no_such_module")
    with pytest.raises(StorageError, match=r"the process for PyTorch files ended: .*No module named"):
        read_torch(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"id": "a", "code": 0}', 0),
        (b'{"id": "a", "code": -9}', -9),
        (b'{"id": "b", "code": 0}', None),
        (b'{"id": "a", "code": "0"}', None),
        (b"0", None),
        (b"[]", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_only_an_answer_to_this_request_is_one(line: bytes, code: int | None) -> None:
    assert torchfile._code_of(line, "a") == code


@pytest.mark.slow
def test_odd_surroundings_do_no_harm(tmp_path: Path) -> None:
    """Something prints when an interpreter starts, signals of children are ignored, a thousand files are open; then a fork."""
    torch.save({"w": torch.arange(3)}, tmp_path / "w.pt")
    (tmp_path / "sitecustomize.py").write_text("print(17); print('{}'); print('no line', end='', flush=True)")
    script = (
        "import os, signal, sys; from pathlib import Path; from ticketguard.storage import torchfile\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "files = [open(os.devnull) for _ in range(1100)]\n"
        "for _ in range(2): assert torchfile.read_torch(Path(sys.argv[1]))['w'].tolist() == [0, 1, 2]\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_DFL)\n"
        "torchfile.reader._lock.acquire()\n"
        "child = os.fork()\n"
        "if not child: os._exit(torchfile.read_torch(Path(sys.argv[1]))['w'].tolist() != [0, 1, 2])\n"
        "assert os.waitpid(child, 0)[1] == 0"
    )
    root = str(Path(torchchild.__file__).parents[2])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "w.pt")],
        check=True, env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}, timeout=120,
    )  # fmt: skip


def test_what_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    for read in (read_torch, read_any, read_tensors):
        with pytest.raises(StorageError, match="no such file"):
            read(tmp_path / "gone.pt")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": torch.ones(1), "n": 3, "list": [torch.ones(1)]}, ["a"]),
        ({"state_dict": {"model": {"a": torch.ones(1)}}}, ["a"]),
        ({"model": {"a": torch.ones(1)}, "ema": {"b": torch.ones(1)}}, ["a"]),
        ({"encoder": {"w": torch.ones(1)}, "decoder": {"w": torch.ones(1)}}, ["encoder.w", "decoder.w"]),
        ({"model": {"a": torch.ones(1)}, "loose": torch.ones(1)}, ["model.a", "loose"]),
        ({0: torch.ones(1), (1, 2): torch.ones(1)}, ["0"]),
        (torch.ones(1), ["tensor"]),
        ([torch.ones(1)], []),
        (None, []),
    ],
)
def test_names_of_nested_dictionaries(value: object, expected: list[str]) -> None:
    assert names(value) == expected


def beside(value: object) -> list[str]:
    read = [tensor for _, tensor in torchchild.named_tensors(value)]
    return [name for name, _ in torchchild.left_out(value, read)]


SQUARE = torch.ones(2, 2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"state_dict": {"a": SQUARE.clone()}, "ema": {"b": SQUARE, "bias": torch.ones(2)}}, ["ema.b"]),
        ({"model": {"a": SQUARE}, "again": {"a": SQUARE}}, []),
        ({"model": {"a": SQUARE}, "best": [{"a": SQUARE.clone()}, (SQUARE.clone(),)]}, ["best.0.a", "best.1.0"]),
        ({"a": SQUARE, (1, 2): SQUARE.clone(), "set": {SQUARE.clone()}}, ["(1, 2)", "set.0"]),
        ({"model": {"a": SQUARE}, "state": {0: {"momentum": torch.ones(3, 2)}}}, ["state.0.momentum"]),
        ({"model": {"a": SQUARE}, "more": {"sparse": SQUARE.to_sparse()}}, ["more.sparse"]),
        ({"a": SQUARE, "losses": [0.5] * 9}, []),
        ([SQUARE], ["0"]),
        (None, []),
    ],
)
def test_what_lies_beside_a_state_dict_is_known_by_name(value: object, expected: list[str]) -> None:
    assert beside(value) == expected


def test_what_was_left_out_stands_in_the_metadata(tmp_path: Path) -> None:
    torch.save({"model": {"a": SQUARE}, "ema": {"b": torch.ones(3, 2)}}, tmp_path / "w.pt")
    file = read_torch(tmp_path / "w.pt")
    assert list(file) == ["a"]
    assert file.metadata == {UNREAD: [["ema.b", [3, 2]]]}
    assert read_torch(tmp_path / "w.pt", whole=True).metadata == {}


def test_lists_inside_themselves_end() -> None:
    endless: list[object] = [SQUARE]
    endless.append({"again": endless})
    assert beside(endless) == ["0"]


def test_a_dictionary_inside_itself_ends() -> None:
    endless: dict[str, object] = {"a": torch.ones(1)}
    endless["b"] = endless
    assert len(names(endless)) < 50


def test_raw_tensors_hold_what_they_show() -> None:
    complex_view = torch.tensor([1 + 2j]).conj().imag
    assert complex_view.is_neg()
    assert np.frombuffer(torchchild.raw("w", complex_view).data, np.float32).tolist() == [-2.0]
    assert torchchild.raw("w", torch.zeros(0, 3)).info.shape == (0, 3)
    assert torchchild.raw("w", nn.Parameter(torch.tensor(2.5))).info.shape == ()
    with pytest.raises(FormatError, match="complex64"):
        torchchild.raw("w", torch.zeros(2, dtype=torch.complex64))


def test_an_archive_must_not_inflate(tmp_path: Path) -> None:
    packed = tmp_path / "packed.pt"
    packed.write_bytes(repacked(lambda archive, name, data: archive.writestr(name, data), zipfile.ZIP_DEFLATED))
    with pytest.raises(FormatError, match="compressed"):
        torchchild.refuse_inflation(packed, packed.stat().st_size)
    plain = tmp_path / "plain.pt"
    torch.save({"w": torch.ones(9)}, plain)
    torchchild.refuse_inflation(plain, plain.stat().st_size)
    with pytest.raises(FormatError, match="larger than the file"):
        torchchild.refuse_inflation(plain, 36)
    old = tmp_path / "old.pt"
    torch.save({"w": torch.ones(9)}, old, _use_new_zipfile_serialization=False)
    torchchild.refuse_inflation(old, old.stat().st_size)


def test_limits_follow_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    monkeypatch.setattr(resource, "getrlimit", lambda what: (0, 30 if what == resource.RLIMIT_CPU else -1))
    torchchild.limit_by_size(100 << 20)
    assert limits[resource.RLIMIT_CPU] == (30, 30)
    assert limits[resource.RLIMIT_CORE] == (0, 0)
    assert limits[resource.RLIMIT_AS][0] > torchchild.MEMORY_BASE + torchchild.MEMORY_PER_BYTE * (100 << 20)
    assert limits[resource.RLIMIT_FSIZE] == ((200 << 20) + (32 << 20),) * 2


def test_the_conversion_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchchild, "limit_by_size", lambda size: None)
    source, target = tmp_path / "w.pt", tmp_path / "w.safetensors"
    torch.save({"w": torch.arange(3.0)}, source)
    torchchild.main(source, target)
    assert read_tensors(target)["w"].tolist() == [0, 1, 2]
    torch.save({"w": torch.zeros(1).expand(10**10)}, source)
    with pytest.raises(FormatError, match="declares tensors of 40000000000 bytes"):
        torchchild.main(source, target)
    torch.save({"n": 1}, source)
    with pytest.raises(FormatError, match="no tensors"):
        torchchild.main(source, target)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FormatError("it holds no tensors"), "it holds no tensors\n"),
        (MemoryError(), "it needs more memory than its size explains\n"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 40 GB"),
            "it needs more memory than its size explains\n",
        ),
        (RuntimeError("failed finding directory. Likely corrupt.\nmore"), "RuntimeError: failed finding directory\n"),
        (KeyError(), "KeyError: \n"),
    ],
)
def test_complaints_are_one_line(error: BaseException, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    torchchild.complain(error)
    assert stream.getvalue() == expected


@pytest.mark.slow
def test_the_memory_limit_holds_without_the_archive_check(tmp_path: Path) -> None:
    """The limit alone stops an archive that inflates 1000-fold, in case another zip trick passes the first check."""
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(67_000_000)}, stream)
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(stream) as original, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in original.namelist():
            archive.writestr(name, original.read(name))
    assert packed.stat().st_size < 300_000
    script = (
        "import sys; from pathlib import Path; import ticketguard.storage.torchchild as child\n"
        "child.refuse_inflation = lambda source, size: None\n"
        "sys.excepthook = lambda kind, error, trace: child.complain(error)\n"
        "child.main(Path(sys.argv[1]), Path(sys.argv[1] + '.out'))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(packed)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.strip() == "it needs more memory than its size explains"


@pytest.mark.slow
def test_a_large_honest_file_is_within_the_limits(tmp_path: Path) -> None:
    weights = torch.arange(25_000_000, dtype=torch.float32).reshape(5000, 5000)
    torch.save({"state_dict": {"w": weights, "t": weights[:100].t()}}, tmp_path / "w.pt")
    file = read_torch(tmp_path / "w.pt")
    assert file.gather("w", np.array([1234567])).tolist() == [1234567.0]
    np.testing.assert_array_equal(file["t"], weights[:100].t().numpy())


@pytest.mark.parametrize("key", ["model", "state_dict", "", "other", 3])
def test_a_dictionary_in_itself_ends(key: str | int) -> None:
    inside: dict[str | int, object] = {}
    inside[key] = inside
    assert list(torchchild.named_tensors(inside)) == []
    inside["w"] = torch.ones(2)
    with suppress(FormatError):  # two tensors of one name
        assert 1 <= len(list(torchchild.named_tensors({"model": inside}))) <= torchchild.DEEPEST + 1
