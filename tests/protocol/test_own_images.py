"""The owner's own trigger images before a judge: only the revealed leaf's are needed, under any file names."""

import json

import numpy as np
import pytest

from ticketguard.commands import run
from ticketguard.errors import DataError, UsageError
from ticketguard.storage.documents import read_csv
from ticketguard.storage.pictures import png_bytes
from ticketguard.triggers.pictures import write_folder
from ticketguard.triggers.plan import image_digest, make_plan
from ticketguard.triggers.render import in_order, render
from ticketguard.verify import transcript as transcripts

pytestmark = pytest.mark.usefixtures("passphrase")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(80).integers(0, 256, size=(256, 1, 8, 8)).astype(np.uint8)


@pytest.fixture(scope="module")
def plan(world, images):
    return make_plan((1, 8, 8), world.CLASSES, leaves=4, own_images=images)


@pytest.fixture(scope="module")
def party(world, plan):
    return world.make_party(80, world.random_model(80), triggers=plan)[0]


def test_images_are_put_in_order_by_their_digests(plan, images, party):
    shuffled = np.random.default_rng(0).permutation(images)
    assert np.array_equal(in_order(shuffled, plan), images)
    found = in_order(images[64:128], plan)
    assert np.array_equal(found[64:128], images[64:128])
    assert not found[128:].any()
    with pytest.raises(DataError, match="image 0 is missing"):
        render(party.opening, plan, own_images=found)
    with pytest.raises(UsageError, match="own images"):
        render(party.opening, plan)


@pytest.fixture
def place(tmp_path, world, party, plan, images, monkeypatch):
    """A transcript of a service that answers as the owner's stream says, its reveal, and leaf 0's pictures as PNG files."""
    world.save_party(tmp_path, party)
    write_folder(tmp_path / "signed" / "trigger-images", images)
    monkeypatch.chdir(tmp_path)
    triggers = render(party.opening, plan, own_images=images)
    recorded = transcripts.record(triggers.images, triggers.labels, plan.classes, service="S", recorded_by="R")
    (tmp_path / "t.json").write_bytes(recorded.encode())
    (tmp_path / "pictures").mkdir()
    for number in range(plan.per_leaf):
        name = f"holiday-{plan.per_leaf - number:03d}.png"
        (tmp_path / "pictures" / name).write_bytes(png_bytes(images[number]))
    assert run(["keygen", "--out", "judge.key"]) == 0
    shown = ["--nonce", world.NONCE, "--key", "owner.key", "--out", "reveal.json"]
    assert run(["reveal", "signed", "--transcript", "t.json", *shown]) == 0
    return tmp_path


def test_judge_and_audit_take_the_owners_images(place, world, plan, capsys):
    case = ["public", "--reveal", "reveal.json", "--transcript", "t.json"]
    verdict = ["--nonce", world.NONCE, "--key", "judge.key", "--out", "v.json"]
    own = ["--trigger-images", "pictures"]
    capsys.readouterr()
    assert run(["judge", *case, *verdict, *own, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["outcome"] == "MATCH"
    assert f"{plan.per_leaf} of {plan.per_leaf}" in document["reason"]
    assert run(["judge", *case, "--check", "v.json", *own]) == 0
    assert run(["audit", *case, *own]) == 0
    capsys.readouterr()
    assert run(["audit", *case]) == 2
    assert "own images" in capsys.readouterr().err


def test_queries_mix_the_owners_images_with_decoys_like_them(place, images, plan, capsys):
    decoys = np.random.default_rng(81).integers(0, 256, size=(20, 1, 8, 8)).astype(np.uint8)
    write_folder(place / "decoys", decoys)
    queries = ["transcript", "queries", "signed", "--leaf", "1", "--out", "q"]
    for bad in ([], ["--decoys", "21", "--decoy-images", "decoys"]):
        capsys.readouterr()
        assert run([*queries, *bad]) == 2
        assert "decoys" in capsys.readouterr().err
        assert not (place / "q").exists()
    assert run([*queries, "--decoys", "20", "--decoy-images", "decoys"]) == 0
    asked = {row[2] for row in read_csv(place / "q" / "index.csv")[1:]}
    assert asked == {image_digest(image) for image in [*images[plan.indices(1)], *decoys]}


@pytest.mark.parametrize("spoilt", ["missing", "changed", "another size", "no pictures", "no folder"])
def test_other_pictures_are_refused_in_one_line(place, world, capsys, spoilt):
    first = sorted((place / "pictures").iterdir())[0]
    if spoilt == "missing":
        first.unlink()
    elif spoilt == "changed":
        first.write_bytes(png_bytes(np.zeros((1, 8, 8), dtype=np.uint8)))
    elif spoilt == "another size":
        first.write_bytes(png_bytes(np.zeros((1, 9, 8), dtype=np.uint8)))
    else:
        for path in (place / "pictures").iterdir():
            path.unlink()
        if spoilt == "no folder":
            (place / "pictures").rmdir()
    capsys.readouterr()
    arguments = ["public", "--reveal", "reveal.json", "--transcript", "t.json", "--trigger-images", "pictures"]
    assert run(["audit", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_images_for_a_registration_without_any_are_refused(tmp_path, world, owner, monkeypatch, capsys):
    world.save_party(tmp_path, owner)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.json").write_bytes(transcripts.Transcript(service="", recorded_by="", answers={}).encode())
    shown = ["--nonce", world.NONCE, "--key", "owner.key", "--out", "reveal.json"]
    assert run(["reveal", "signed", "--transcript", "t.json", "--override", *shown]) == 0
    capsys.readouterr()
    case = ["public", "--reveal", "reveal.json", "--transcript", "t.json", "--trigger-images", "signed"]
    assert run(["audit", *case]) == 2
    assert "no trigger images of the owner's own" in capsys.readouterr().err
