"""Plans: presets, files, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ticketguard.attacks.registry import ATTACKS
from ticketguard.errors import FormatError, UsageError
from ticketguard.suite import Cell, Entry, Plan, preset, read_plan
from ticketguard.suite.cells import trains
from ticketguard.suite.presets import PRESETS

TOML = """
epochs = 2
images = 500
seeds = 2
attacks = ["rename", {name = "prune-magnitude", strengths = [0.1, 0.3]}, {name = "finetune", seeds = [7], epochs = 5}]
"""


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    cells = preset(name).cells()
    assert len(cells) == len(set(cells)) > 20
    assert {cell.seed for cell in cells} == ({0} if name == "standard" else {0, 1, 2})


def test_quick_tries_every_attack_that_needs_nothing_trained_beforehand() -> None:
    assert {cell.attack for cell in preset("quick").cells()} >= set(ATTACKS) - {"fake3"}


# Names with the strengths that `standard` must try; none: any strength will do.
PRUNED_LOSSLESS = (
    "permute",
    "rescale",
    "sign-flip",
    "dummy-zero",
    "dummy-clique",
    "dummy-split",
    "fold-norm",
    "rename",
)
DEMANDED: dict[str, tuple[float, ...]] = {
    "finetune": (0.1,),
    "ftll": (0.1,),
    "rtal": (0.1,),
    "rtll": (0.1,),
    "prune-magnitude": (0.3, 0.5),
    "prune-random": (0.3,),
    "add-on": (0.1,),
    "rewire-cell": (0.1, 0.7, 0.9),
    "rewire-row": (0.1, 0.7, 0.9),
    "rewire-guided": (0.1, 0.7, 0.9),
    "rewire-loud": (0.1, 0.7, 0.9),
    "densify": (),
    "densify-prune": (),
    "duplicate-eraser": (),
    "permute": (1.0,),
    "rescale": (),
    "sign-flip": (),
    "dummy-zero": (0.25,),
    "dummy-clique": (0.25,),
    "dummy-split": (0.25,),
    "fold-norm": (),
    "rename": (),
    # Zeros filled at 1e-9, and rescaled on top.
    "fill": (0.0, 4.0),
    "weight-noise": (),
    "weight-shift": (),
    "quantize": (16, 8, 6, 5, 4),
    "fine-pruning": (),
    "overwrite": (),
    "leaked-one": (),
    "leaked-all": (),
    "distill": (),
    "distill-other": (),
    "extract-soft": (),
    "retrain-l2": (),
    "retrain-smoothing": (),
    "adversarial": (),
    "nad": (),
    "unlearn": (),
    "input-flip": (),
    "input-jpeg": (95, 65, 45),
    "input-noise": (),
    "input-blur": (),
    "input-depth": (),
    "query-filter": (),
    "unrelated": (),
    "unsigned": (),
    "other-owner": (),
    "licensee-copy": (),
    **{f"prune-magnitude+{name}": (0.3,) for name in PRUNED_LOSSLESS},
    "prune-magnitude+quantize@16": (0.3,),
    "prune-magnitude+quantize@8": (0.3,),
}


@pytest.mark.parametrize("name", DEMANDED)
def test_standard_holds_the_demanded_strengths(name: str) -> None:
    tried = {cell.strength for cell in preset("standard").cells() if cell.attack == name}
    assert tried
    assert set(DEMANDED[name]) <= tried


def test_standard_holds_every_attack() -> None:
    named = {part.partition("@")[0] for cell in preset("standard").cells() for part in cell.attack.split("+")}
    assert set(ATTACKS) <= named


def test_files(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TOML)
    plan = read_plan(tmp_path / "mine.toml")
    assert (plan.name, plan.epochs, plan.images, plan.seeds) == ("mine", 2, 500, (0, 1))
    cells = plan.cells()
    assert len(cells) == 2 + 4 + 3
    assert cells[2:6] == tuple(
        Cell(attack="prune-magnitude", strength=strength, seed=seed, epochs=2, images=500)
        for strength in (0.1, 0.3)
        for seed in (0, 1)
    )
    assert {(cell.seed, cell.epochs) for cell in cells[6:]} == {(7, 5)}
    document = {"name": "other", "attacks": [{"name": "permute+prune-magnitude@0.3"}]}
    (tmp_path / "other.json").write_text(json.dumps(document))
    assert read_plan(tmp_path / "other.json").entries == (Entry(attack="permute+prune-magnitude@0.3"),)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "attacks"),
        ({"attacks": "all"}, "attacks"),
        ({"attacks": [3]}, "name"),
        ({"attacks": [{"name": "rename", "power": 3}]}, "power"),
        ({"attacks": ["rename"], "speed": 1}, "speed"),
        ({"attacks": ["rename"], "epochs": 1.5}, "epochs"),
        ({"attacks": ["rename"], "seeds": []}, "seeds"),
        ({"attacks": ["rename"], "seeds": [-1]}, "seeds"),
        ({"attacks": [{"name": "prune-magnitude", "strengths": ["much"]}]}, "much"),
        ({"attacks": [{"name": "prune-magnitude", "strengths": [10**400]}]}, "beyond"),
        ({"attacks": ["rename"], "epochs": {"a": []}}, "epochs: dict"),
    ],
)
def test_malformed_plans(document, words: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=words):
        read_plan(path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("attacks = " + "[" * 5000, id="lists"),
        pytest.param("attacks = " + "{a=" * 5000, id="tables"),
        pytest.param("attacks = ['rename']\nepochs" + ".a" * 5000 + " = 1", id="keys"),
        pytest.param("attacks = ['rename']\nepochs = 1" + "0" * 5000, id="digits"),
        pytest.param("attacks = [['prune-magnitude', [1" + "0" * 400 + "]]]", id="no float"),
    ],
)
def test_hostile_toml_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(FormatError, match=r"plan\.toml"):
        read_plan(tmp_path / "plan.toml")


def test_impossible_plans(tmp_path: Path) -> None:
    for entry in (Entry(attack="nothing"), Entry(attack="prune-magnitude", strengths=(1.5,))):
        with pytest.raises(UsageError):
            Plan(name="x", entries=(entry,))
    with pytest.raises(UsageError):
        Plan(name="x", entries=())
    with pytest.raises(UsageError, match="quick"):
        preset("slow")
    (tmp_path / "bad.toml").write_text("attacks = [")
    with pytest.raises(FormatError, match="TOML"):
        read_plan(tmp_path / "bad.toml")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(FormatError, match="table"):
        read_plan(tmp_path / "list.json")


def test_a_digest_depends_on_cell_and_subject() -> None:
    cell = Cell(attack="rename", strength=1.0, seed=0, epochs=3, images=None)
    other = Cell(attack="rename", strength=1.0, seed=1, epochs=3, images=None)
    assert len({cell.digest("a"), cell.digest("b"), other.digest("a")}) == 3
    assert cell.digest("a") == cell.digest("a")


@pytest.mark.parametrize(
    ("attack", "expected"),
    [("finetune", True), ("rename", False), ("permute+finetune@0.1", True), ("permute+rename", False)],
)
def test_which_cells_train(attack: str, expected: bool) -> None:
    assert trains(Cell(attack=attack, strength=1.0, seed=0, epochs=3, images=None)) is expected


def test_the_plan_on_the_page_is_a_plan(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "researcher.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my.toml").write_text(shown)
    plan = read_plan(tmp_path / "my.toml")
    assert [cell.attack for cell in plan.cells()].count("unsigned") == 2
