"""A folder with the committed signed bundle in it, and a way to run commands there without a terminal."""

import hashlib
import json
import os
import shutil
import stat
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from ticketguard import commands
from ticketguard.claims import vault

FIXTURES = Path(__file__).parents[2] / "fixtures"
PASSPHRASE = "fixture"
# The same salt and passphrase give the same key: once is enough for the whole session.
KDFS = {name: (number, cache(derive)) for name, (number, derive) in vault.KDFS.items()}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The working folder: `signed/`, `suspects/`, `owner.key`, `owner.pub`; the passphrase is in the environment."""
    bundle = FIXTURES / "bundle-v1"
    shutil.copytree(bundle, tmp_path / "signed", ignore=shutil.ignore_patterns("suspects", "owner.*", "verdicts.json"))
    shutil.copytree(bundle / "suspects", tmp_path / "suspects")
    for name in ("owner.key", "owner.pub"):
        shutil.copy(bundle / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TICKETGUARD_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(vault, "KDFS", KDFS)
    yield tmp_path
    # Read-only folders would keep pytest from cleaning up.
    for folder in [tmp_path, *tmp_path.rglob("*")]:
        if folder.is_dir():
            folder.chmod(0o755)


@pytest.fixture
def tg(world, capsys):
    """Runs `ticketguard ARGUMENTS...` in the working folder: exit code, standard output, standard error, parsed JSON."""

    def run(*arguments):
        capsys.readouterr()
        code = commands.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, json=json.loads(out) if out.startswith("{") else None)

    return run


def snapshot(folder):
    """Path -> mode and digest of everything below `folder`: equal when nothing was written, removed or renamed."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent, name)
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path.relative_to(folder))] = (stat.S_IMODE(path.lstat().st_mode), content)
    return found


@pytest.fixture(name="snapshot")
def snapshot_of():
    """`snapshot`, for tests: files of this folder are not importable."""
    return snapshot
