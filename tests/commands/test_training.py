"""`find`, `train` and `demo`: what they write and print, on a handful of digits; how well they do is measured elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from ticketguard.commands.training_options import chosen_recipe
from ticketguard.evidence import Evidence, Rule, decide
from ticketguard.tickets import Model, read_ticket
from ticketguard.training import RECIPES

FEW = ("--limit", "96", "--epochs", "1")
FIND = ("find", "--data", "digits", "--arch", "convnet", "--rounds", "1", "--out", "run", *FEW)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A run folder that `find` wrote, made once."""
    from ticketguard import commands

    folder = tmp_path_factory.mktemp("found")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        code = commands.run([*FIND, "--json"])
    assert code in (0, 1)
    return folder


def test_find_writes_a_ticket_of_the_density_asked_for(found):
    ticket = read_ticket(found / "run" / "ticket.safetensors")
    assert ticket.architecture.name == "convnet"
    assert ticket.mask.kept == round(0.2 * ticket.mask.size)
    assert ticket.provenance["classes"] == [str(digit) for digit in range(10)]
    assert (found / "run" / "rewind.safetensors").exists()


def test_finding_again_goes_on_where_it_was_and_tells_the_same(found, tg, world, monkeypatch):
    monkeypatch.chdir(found)
    before = (found / "run" / "ticket.safetensors").read_bytes()
    text, document = tg(*FIND), tg(*FIND, "--json")
    assert text.code == document.code == (0 if document.json["winning"] else 1)
    assert (found / "run" / "ticket.safetensors").read_bytes() == before
    assert f"{document.json['edges']} edges (20.0% kept)" in text.out
    assert ("not a winning ticket" in text.out) == (not document.json["winning"])


def test_a_search_that_prunes_nothing_finds_no_ticket(tg, world):
    dense = ("find", "--data", "digits", "--rounds", "0", *FEW)
    found = tg(*dense, "--out", "dense")
    assert found.code == 1
    assert "pruning      none\n" in found.out
    assert "not a winning ticket: no round kept a winning ticket, so nothing is pruned" in found.out
    assert tg(*dense, "--out", "dense", "--json").json["winning"] is False
    assert read_ticket(world / "dense" / "ticket.safetensors").provenance["winning"] is False
    several = tg(*dense, "--out", "several", "--seed", "1", "--seed", "2")
    assert several.code == 1
    assert (
        several.out.splitlines()[-1]
        == "a ticket that does not win: no round kept a winning ticket, so nothing is pruned"
    )


def test_another_search_in_the_same_folder_is_refused(found, tg, monkeypatch):
    monkeypatch.chdir(found)
    result = tg(*FIND, "--seed", "5")
    assert result.code == 2
    assert result.err.count("\n") == 1


def test_any_value_of_a_recipe_can_be_set():
    given = ("weight_decay=5e-4", "milestones=40,60", "batch_size=64", "nesterov=true", "schedule=cosine", "gamma=1")
    recipe = chosen_recipe("paper", "cifar10", 80, overrides=given)
    expected = replace(
        RECIPES["paper"], epochs=80, weight_decay=5e-4, milestones=(40, 60), batch_size=64, nesterov=True,
        schedule="cosine", gamma=1.0,
    )  # fmt: skip
    assert recipe == expected
    assert type(recipe.gamma) is float
    assert chosen_recipe("paper", "cifar10", None, overrides=("milestones=",)).milestones == ()
    assert chosen_recipe("paper", "cifar10", None) == RECIPES["paper"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("lr", "FIELD=VALUE"),
        ("speed=1", "no 'speed'"),
        ("epochs=3", "no 'epochs'"),
        ("lr=fast", "a number"),
        ("lr=nan", "learning rate"),
        ("batch_size=1.5", "an integer"),
        ("nesterov=yes", "true or false"),
        ("milestones=1;2", "commas"),
        ("schedule=x\x1b[2J", "unknown schedule"),
    ],
)
def test_impossible_values_of_a_recipe_are_refused(tg, world, given, says):
    refused = tg("find", "--data", "digits", "--out", "other", "--set", given)
    assert refused.code == 2
    assert says in refused.err
    assert refused.err.rstrip("\n").isprintable()
    assert not (world / "other").exists()


def test_several_seeds_are_searched_in_folders_of_their_own(tg, world):
    several = (*FIND[: -len(FEW) - 2], "--seed", "3", "--seed", "5", *FEW, "--out", "runs")
    text = tg(*several)
    assert text.code in (0, 1), text.err
    lines = text.out.splitlines()
    for seed in (3, 5):
        ticket = world / "runs" / f"seed-{seed}" / "ticket.safetensors"
        assert read_ticket(ticket).provenance["seeds"] == [seed]
        assert any(line.startswith(f"seed {seed}: dense ") and str(ticket.relative_to(world)) in line for line in lines)
    assert ("does not win" in lines[-1]) == (text.code == 1)
    document = tg(*several, "--json").json
    assert [row["seed"] for row in document["searches"]] == [3, 5]
    assert text.code == (0 if all(row["winning"] for row in document["searches"]) else 1)


@pytest.fixture
def signed_run(found, tg, world):
    """The found ticket, signed in the working folder."""
    done = tg(
        "sign", found / "run" / "ticket.safetensors", "--key", "owner.key", "--owner", "Lab", "--out", "mine", "--json"
    )
    assert done.code == 0, done.err
    return done


def test_new_edges_of_a_found_ticket_start_from_its_own_rewind_weights(signed_run, found, world):
    from ticketguard.api import read_rewind

    rewind = read_rewind(found / "run" / "rewind.safetensors")
    signed = read_ticket(world / "mine" / "ticket.safetensors")
    for name, bits in signed.mask.items():
        assert np.array_equal(signed.weights[name][bits], rewind[name][bits])


def test_train_writes_a_model_with_the_tickets_zeros(signed_run, tg, world):
    result = tg("train", "mine", "--data", "digits", *FEW, "--json")
    assert result.code == 0
    assert result.err == ""
    model = read_ticket(world / "mine" / "model.safetensors")
    assert isinstance(model, Model)
    for name, bits in model.mask.items():
        assert not np.asarray(model.weights[name])[~bits].any()
    assert result.json["model"] == "mine/model.safetensors"
    assert 0 <= result.json["accuracy"] <= 100
    assert tg("verify", "mine/model.safetensors", "--signed", "mine").code == 0


def test_train_elsewhere_without_triggers_needs_no_secret(signed_run, tg, world, monkeypatch):
    monkeypatch.delenv("TICKETGUARD_PASSPHRASE")
    result = tg("train", "mine", "--data", "digits", *FEW, "--no-triggers", "--out", "plain.safetensors")
    assert result.code == 0
    assert "accuracy" in result.out
    assert "triggers" not in result.out
    assert (world / "plain.safetensors").exists()


# As README.md quotes it.
BAR = "a match needs 126 (66 with a time stamp).\n"


def test_demo_prints_its_table_and_the_same_rows_as_json(tg, world, monkeypatch):
    from ticketguard import demo

    evidence = Evidence(
        test="support",
        scope="pooled",
        view="stored",
        n=200,
        matches=200,
        log2_p=-200.0,
        capacity_bits=200.0,
        erasures=0,
        null="",
    )
    rows = [
        demo.Row(suspect="dense model", accuracy=99.12, verdict=None),
        demo.Row(suspect="owner's model", accuracy=98.5, verdict=decide([evidence], Rule())),
    ]
    monkeypatch.setattr(demo, "demo", lambda folder, passphrase, *, seed, say: say(f"find in {folder}") or rows)
    shown = tg("demo", "--out", "story")
    assert shown.code == 0
    for words in ("find in story", "99.12 %", "MATCH", "200.0", "lawful access is not excluded", "story", BAR):
        assert words in shown.out
    result = tg("demo", "--out", "story", "--json")
    assert result.json["rows"] == [
        {"suspect": "dense model", "accuracy": 99.12, "verdict": None, "bits": None},
        {"suspect": "owner's model", "accuracy": 98.5, "verdict": "MATCH", "bits": 200.0},
    ]
    assert "find in story" in result.err
