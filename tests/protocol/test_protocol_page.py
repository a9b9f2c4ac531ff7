"""docs/protocol.md names tests that exist and values that are true."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ticketguard.bundle import Bundle
from ticketguard.claims.registration import EARLIER_STATISTICS, STATISTICS
from ticketguard.signatures.edge import PAIR_WEIGHTS
from ticketguard.storage.suspects import read_any
from ticketguard.storage.tensors import in_memory
from ticketguard.triggers.plan import plan_of
from ticketguard.triggers.render import render
from ticketguard.verify.dispute import LEAST_OVERLAP, OVER_CHANCE
from ticketguard.verify.lineage import chance_overlap, frame_overlap

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
THREATS = PAGE.split("## Threats")[1].split("## Known answers")[0]


def rows():
    return [line for line in THREATS.splitlines() if line.startswith("| ") and not line.startswith("| attack")]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip())
def test_every_threat_names_a_test_that_exists(row):
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 4
    file, name = re.fullmatch(r"`([^:`]+)::(\w+)`", cells[3]).groups()
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_known_answers_of_the_page_are_those_of_the_fixtures():
    known = json.dumps(json.loads((ROOT / "fixtures" / "vectors" / "claims.json").read_text()))
    values = re.findall(r"`([0-9a-f]{64})`", PAGE.split("## Known answers")[1])
    assert len(values) == 8
    for value in values[:-1]:
        assert value in known


def test_the_page_weighs_a_pair_as_the_program_does():
    small, large = np.array([0.25, 0.5]), np.array(1e9)
    squared, plain = (PAIR_WEIGHTS[plan[1]] for plan in (STATISTICS, EARLIER_STATISTICS))
    assert np.array_equal(squared(small), small**2)
    assert np.array_equal(plain(small), small)
    assert f"v = min(difference, {np.sqrt(squared(large)):g})^2 (or min(difference, {plain(large):g}))" in PAGE
    assert f"**{STATISTICS[1]}** (or **{EARLIER_STATISTICS[1]}**" in PAGE


def test_trigger_pictures_follow_the_words_of_the_page(world, owner):
    """One picture, pixel by pixel, in plain Python."""
    plan = plan_of(owner.registered.registration)
    channels, height, width = plan.shape
    stream = owner.opening.stream("triggers/images", 0)
    words = [int(word) >> 32 for word in stream.words(21 * channels + 5)]
    y0, x0, hy, hx, kind = words[:5]
    half_y, half_x = hy % 48 + 24, hx % 48 + 24

    def strong(word):
        return min(max(word % 512 - 128, 0), 255)

    picture = np.zeros(plan.shape, dtype=np.uint8)
    for c in range(channels):
        own = words[5 + 21 * c : 26 + 21 * c]
        d, e = own[16] % 33 - 16, own[17] % 33 - 16
        for i in range(height):
            for k in range(width):
                y, x = (2 * i + 1) * 128 // height, (2 * k + 1) * 128 // width
                field = strong(own[4 * (4 * y // 256) + 4 * x // 256])
                level = min(abs(((d * y + e * x) // 8 + own[18] % 512) % 512 - 256), 255)
                wave = level * (own[19] % 256) // 255
                dy, dx = abs(y - y0 % 256), abs(x - x0 % 256)
                box = dy <= half_y and dx <= half_x
                ellipse = (dy * half_x) ** 2 + (dx * half_y) ** 2 <= (half_y * half_x) ** 2
                inside = box if kind % 2 == 0 else ellipse
                picture[c, i, k] = strong(own[20]) if inside else (7 * field + wave) // 8
    assert np.array_equal(picture, render(owner.opening, plan).images[0])


def test_overlaps_of_the_page(world, owner):
    def overlap(file, measure=frame_overlap):
        return measure(file, owner.registered.registration, owner.reference)

    assert overlap(world.tensors_of(owner.model)) == pytest.approx(1)
    assert overlap(in_memory(world.pruned(owner.model, 0.5))) == pytest.approx(0.67, abs=0.02)
    for seed in range(95, 100):
        assert overlap(world.tensors_of(world.random_model(seed))) < LEAST_OVERLAP / 3
    assert overlap(world.tensors_of(owner.model), chance_overlap) < 0.05
    dense = in_memory({name: array + 1e-3 for name, array in owner.model.weights.items()})
    assert overlap(dense) > 0.9
    assert overlap(in_memory({"x": np.ones((2, 2), np.float32)})) == 0


@pytest.mark.parametrize(
    ("name", "shown"), [("half", True), ("permuted", True), ("filled", True), ("unrelated", False)]
)
def test_alignment_finds_a_frame_in_anything_small_so_chance_is_measured(name, shown):
    """The bundle's network is tiny: an unrelated model overlaps by 0.42 once it is aligned, as random frames do."""
    bundle = Bundle(ROOT / "fixtures" / "bundle-v1")
    registered, _ = bundle.read_registration()
    suspect = read_any(bundle.folder / "suspects" / f"{name}.safetensors")
    counts = bundle.reference(registered)
    overlap, chance = (measure(suspect, registered, counts) for measure in (frame_overlap, chance_overlap))
    assert chance == pytest.approx(0.43, abs=0.04)
    assert (overlap >= OVER_CHANCE * chance) == shown


def test_the_words_are_ten_lines_that_both_pages_link_to():
    words = PAGE.split("## Words\n")[1].split("\n## ")[0]
    entries = re.findall(r"(?m)^- (?:\*\*[\w-]+\*\*(?: and )?)+", words)
    named = [word for entry in entries for word in re.findall(r"\*\*([\w-]+)\*\*", entry)]
    assert len(entries) == 10
    assert named == [
        "leaf", "pooled", "carrier", "support", "squared-magnitude", "stored", "aligned", "frame", "M", "g", "lineage",
    ]  # fmt: skip
    for page in ("owner.md", "judge.md"):
        assert "(protocol.md#words)" in (ROOT / "docs" / page).read_text(encoding="utf-8")
