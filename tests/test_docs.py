"""The pages run as written: `PAGES` one after the other, in the order in which a reader meets them.

docs/probing.md runs in tests/probe/test_servers.py, against real servers on loopback. Not run: `make` targets; blocks marked
`text`, which need data of your own; the fragments for Lightning and Hugging Face, which are compiled; and the grids of
docs/robustness.md, on digits as on CIFAR-10. Options are checked on every page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Read one after the other in one folder: later pages go on with what earlier ones made.
PAGES = (
    "README.md",
    "docs/owner.md",
    "docs/integrations.md",
    "docs/judge.md",
    "docs/researcher.md",
    "docs/paper.md",
)
BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)
EXPECTED_FAILURES = {
    # The page says that this prints NO MATCH: exit code 1.
    "ticketguard verify 'run/*.safetensors' --signed signed/ --csv scan.csv": 1,
}
# Parts of a program around libraries that ticketguard does not install.
FRAGMENTS = ("lightning.pytorch", "transformers.Trainer")


def steps(page: str) -> list[tuple[str, str]]:
    """Language and source of every runnable line or block of a page, in order."""
    found = []
    for language, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if language == "python":
            found.append((language, text))
        else:
            found += [(language, line[2:]) for line in text.splitlines() if line.startswith("$ ")]
    return found


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_commands(page: str) -> None:
    assert steps(page)


def test_every_named_option_exists() -> None:
    """`--options` in running text as well: a renamed option must not survive in a document."""
    from ticketguard.commands import COMMANDS, cli

    known = {"--help", "--version"}
    for name in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        for child in [command, *getattr(command, "commands", {}).values()]:
            known |= {option for parameter in child.params for option in [*parameter.opts, *parameter.secondary_opts]}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for line in re.findall(r"ticketguard [^\n`]*", page.read_text(encoding="utf-8")):
            assert set(re.findall(r"(?<![\w-])--[a-z-]+", line)) <= known, f"{page.name}: {line}"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_command_line_runs(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for page in PAGES:
        for language, source in steps(page):
            if source.startswith("export "):
                name, _, value = source.removeprefix("export ").partition("=")
                environment[name] = value.strip('"')
                continue
            if source.startswith("make "):
                continue
            if language == "python" and any(name in source for name in FRAGMENTS):
                compile(source, page, "exec")
                continue
            command = [sys.executable, "-c", source] if language == "python" else ["bash", "-c", source]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == EXPECTED_FAILURES.get(source, 0), (
                f"{page}: {source}\n{done.stdout}\n{done.stderr}"
            )
