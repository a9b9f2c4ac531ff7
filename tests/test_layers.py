"""Imports point down the layers, wherever they stand in a file, and judging a suspect needs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ticketguard"
# Higher rungs import lower ones; parts of one rung may import each other as long as no circle arises.
RUNGS = (
    ("errors", "workers"),
    ("storage",),
    ("masks", "tickets"),
    ("tails", "evidence"),
    ("graph",),
    ("claims",),
    ("triggers",),
    ("signatures",),
    ("verify", "probe"),
    ("signing", "bundle", "licensing"),
    ("finding", "training", "models", "data", "tracing"),
    ("integrations",),
    ("attacks",),
    ("suite",),
    ("report",),
    ("api", "demo"),
    ("commands",),
    ("__main__",),
    ("__init__",),
)
RANKS = {part: rank for rank, parts in enumerate(RUNGS) for part in parts}
# What a verdict is made with, and what must not be loaded for it; the child process that reads .pt files is another matter.
VERIFY_PATH = tuple(part for rung in RUNGS[: RUNGS.index(("signing", "bundle", "licensing")) + 1] for part in rung)
HEAVY = ("torch", "networkx", "rich", "sklearn", "scipy.optimize")
OTHER_PROCESS = PACKAGE / "storage" / "torchchild.py"


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(nodes: Iterator[ast.AST], file: Path) -> set[str]:
    """Dotted names that import statements bring in; `from a import b` counts as `a.b`, relative ones are made absolute."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = file.relative_to(PACKAGE.parent).parts[: -node.level] if node.level else ()
            names |= {".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names}
    return names


def at_module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that run on import: all but the bodies of functions and of `if TYPE_CHECKING`."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            stack += node.orelse
            continue
        stack += ast.iter_child_nodes(node)


def files() -> list[Path]:
    return sorted(file for file in PACKAGE.rglob("*.py") if "__pycache__" not in file.parts)


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    own = RANKS[part_of(file)]
    parts = {name.split(".")[1] for name in imported(ast.walk(tree), file) if name.startswith("ticketguard.")}
    assert not (unknown := parts - RANKS.keys() - {"__version__"}), f"{unknown} have no rung in this test"
    assert not (up := {part for part in parts & RANKS.keys() if RANKS[part] > own}), f"{file.name} imports up: {up}"


def on_verify_path() -> list[Path]:
    return [file for file in files() if part_of(file) in VERIFY_PATH and file != OTHER_PROCESS]


@pytest.mark.parametrize("file", on_verify_path(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_verify_path_loads_nothing_heavy(file: Path) -> None:
    names = imported(at_module_level(ast.parse(file.read_text(encoding="utf-8"))), file)
    heavy = {name for name in names for word in HEAVY if name == word or name.startswith(word + ".")}
    assert not heavy


def test_no_two_parts_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for file in files():
        names = imported(ast.walk(ast.parse(file.read_text(encoding="utf-8"))), file)
        parts = {name.split(".")[1] for name in names if name.startswith("ticketguard.")}
        graph.setdefault(part_of(file), set()).update(parts - {part_of(file)})
    TopologicalSorter(graph).prepare()


def test_every_part_has_a_rung() -> None:
    assert {part_of(file) for file in files()} <= RANKS.keys()


def test_importing_the_verify_path_imports_nothing_heavy() -> None:
    modules = [
        ".".join(("ticketguard", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for file in on_verify_path()
    ]
    script = f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; assert not sys.modules.keys() & {HEAVY}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=PACKAGE.parent)
