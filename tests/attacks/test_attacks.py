"""Every attack of the registry: it acts on the victim's copy only, repeats exactly, and does what its docstring says."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from ticketguard.attacks.base import Attacked, Victim
from ticketguard.attacks.duplicates import suspicious
from ticketguard.attacks.prune_magnitude import PruneMagnitude
from ticketguard.attacks.rebuild import module_of, network
from ticketguard.attacks.registry import ATTACKS, make, strengths
from ticketguard.attacks.tuning import TrainingAttack
from ticketguard.errors import UsageError
from ticketguard.graph.cells import layer_of
from ticketguard.training import evaluate, predict
from ticketguard.triggers.score import ERASURE
from ticketguard.verify.verifier import Examiner

NAMES = list(ATTACKS)
# fake3 overwrites a QR code, which this victim does not carry (tests/attacks/test_paper_attacks.py has one that does).
RUN = [name for name in NAMES if name != "fake3"]


@pytest.fixture(scope="module")
def attacked(victim) -> dict[str, Attacked]:
    """One run of every attack at the middle of its grid."""
    return {name: make(name).run(victim) for name in RUN}


@pytest.fixture(scope="module")
def examiner(tiny_signed) -> Examiner:
    from ticketguard.api import examiner_of

    return examiner_of(tiny_signed.signed)


def accuracy(result: Attacked, victim: Victim) -> float:
    data = victim.dataset
    return evaluate(module_of(result), data.test_images, data.test_labels, data)


def edge_bits(examiner: Examiner, weights) -> float:
    return max(item.bits for item in examiner.verify(weights).evidence)


@pytest.mark.parametrize("name", NAMES)
def test_table(name: str) -> None:
    kind = ATTACKS[name]
    assert kind.name == name
    assert "." in (kind.__doc__ or "")
    for strength in strengths(name):
        attack = make(name, strength)
        assert repr(attack) == f"{name}@{strength:g}"
    with pytest.raises(UsageError, match=name):
        make(name, -1.0)
    with pytest.raises(UsageError, match=name):
        make(name, float("nan"))


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_read_in_one_go(name: str) -> None:
    file = Path(inspect.getfile(ATTACKS[name]))
    assert 30 <= len(file.read_text(encoding="utf-8").splitlines()) <= 100


@pytest.mark.parametrize("name", RUN)
def test_result_is_a_network(name: str, attacked, victim) -> None:
    result = attacked[name]
    answers = predict(module_of(result), victim.dataset.test_images, victim.dataset)
    assert answers.shape == victim.dataset.test_labels.shape
    assert (result.epochs > 0) == ATTACKS[name].trains
    if result.epochs:
        assert result.images == len(victim.dataset.train_images)


def test_the_victim_is_left_alone(attacked, victim, tiny_signed) -> None:
    from ticketguard.tickets import read_ticket

    assert attacked
    stored = read_ticket(tiny_signed.bundle.model)
    for key, array in victim.model.weights.items():
        assert np.array_equal(array, stored.weights[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_equal_seeds_give_equal_weights(name: str, attacked, victim) -> None:
    again = make(name).run(victim)
    assert list(again.weights) == list(attacked[name].weights)
    for key, array in again.weights.items():
        assert np.array_equal(array, attacked[name].weights[key]), key


@pytest.mark.parametrize("name", [name for name in NAMES if ATTACKS[name].lossless])
def test_lossless(name: str, attacked, victim, examiner) -> None:
    images = victim.dataset.test_images
    before = predict(network(victim.model.architecture, victim.model.weights), images, victim.dataset)
    assert np.mean(predict(module_of(attacked[name]), images, victim.dataset) == before) >= 0.98
    clean = edge_bits(examiner, victim.model.weights)
    # The fill hides every zero, so only the magnitude test is left; it reads less from each pair.
    assert edge_bits(examiner, attacked[name].weights) >= clean * (0.4 if name == "fill" else 0.99)


@pytest.mark.parametrize("name", [name for name in NAMES if ATTACKS[name].control])
def test_controls_show_nothing(name: str, attacked, examiner) -> None:
    assert edge_bits(examiner, attacked[name].weights) < 20


@pytest.mark.parametrize("name", ["prune-magnitude", "prune-random"])
def test_pruning_is_exact(name: str, victim) -> None:
    before = victim.model.mask.kept
    result = make(name, 0.3).run(victim)
    after = {key: result.weights[key] != 0 for key in victim.names}
    assert sum(int(bits.sum()) for bits in after.values()) == round(before * 0.7)
    assert all(not np.any(bits & ~victim.model.mask[key]) for key, bits in after.items())
    everything = PruneMagnitude(strength=1.0).run(victim)
    assert not any(np.any(everything.weights[key]) for key in victim.names)


def test_magnitude_pruning_takes_the_smallest(victim) -> None:
    result = make("prune-magnitude", 0.5).run(victim)
    gone, left = [], []
    for key in victim.names:
        array, after = victim.model.weights[key], result.weights[key]
        gone.append(np.abs(array[(array != 0) & (after == 0)]))
        left.append(np.abs(after[after != 0]))
    assert np.concatenate(gone).max() <= np.concatenate(left).min()


def test_add_on_fills_the_stated_share(victim) -> None:
    result = make("add-on", 0.1).run(victim)
    for key in victim.names:
        empty = victim.model.weights[key] == 0
        assert np.count_nonzero(result.weights[key][empty]) == round(0.1 * empty.sum())
        assert np.array_equal(result.weights[key][~empty], victim.model.weights[key][~empty])


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_rows_have_few_levels(bits: int, victim) -> None:
    key = victim.names[0]
    rows = make("quantize", bits).run(victim).weights[key]
    assert max(len(np.unique(row)) for row in rows) <= 2**bits - 1
    step = np.abs(victim.model.weights[key]).max() / (2 ** (bits - 1) - 1)
    assert np.abs(rows - victim.model.weights[key]).max() <= step / 2 * 1.001


def test_training_keeps_the_mask(attacked, victim) -> None:
    for name in ("finetune", "ftll", "rtal", "nad", "adversarial", "retrain-l2", "unlearn", "weight-shift"):
        for key in victim.names:
            assert not np.any(attacked[name].weights[key][~victim.model.mask[key]]), (name, key)


def test_last_layer_variants_leave_convolutions_alone(attacked, victim) -> None:
    for name in ("ftll", "rtll"):
        weights = attacked[name].weights
        assert all(np.array_equal(weights[key], victim.model.weights[key]) for key in victim.names)
        assert not np.array_equal(weights["fc.weight"], victim.model.weights["fc.weight"])


def test_densify_leaves_no_zero_and_repruning_restores_the_density(attacked, victim) -> None:
    assert all(np.all(attacked["densify"].weights[key] != 0) for key in victim.names)
    kept = sum(np.count_nonzero(attacked["densify-prune"].weights[key]) for key in victim.names)
    assert kept == victim.model.mask.kept


def test_rewiring_needs_public_rewind_weights_only_when_guided(victim) -> None:
    with pytest.raises(UsageError, match="rewind"):
        make("rewire-guided").run(replace(victim, rewind=None))


def test_duplicate_eraser_finds_moved_values_and_nothing_else(victim) -> None:
    assert all(len(edges) == 0 for edges, _ in suspicious(victim.rewind, victim).values())
    naive = {key: np.array(array) for key, array in victim.model.weights.items()}
    key = victim.names[1]
    layer = layer_of(key, naive[key].shape)
    flat, kept = naive[key].ravel(), victim.model.mask[key].ravel()
    cells = np.arange(layer.full_cells)
    here = layer.positions_of(cells, np.zeros_like(cells))
    there = layer.positions_of(cells, np.ones_like(cells))
    moved = kept[here] & ~kept[there]
    flat[there[moved]] = flat[here[moved]]
    edges, places = suspicious(naive, victim)[key]
    assert np.array_equal(np.sort(edges), np.sort(here[moved]))
    assert np.array_equal(np.sort(places), np.sort(there[moved]))


def test_leaks(attacked, victim, examiner) -> None:
    one = {
        item.scope: item.bits
        for item in examiner.verify(attacked["leaked-one"].weights).evidence
        if item.test == "support"
    }
    assert one["leaf 0"] < 20
    assert min(one[f"leaf {leaf}"] for leaf in (1, 2, 3)) > 126
    assert edge_bits(examiner, attacked["leaked-all"].weights) < 40
    with pytest.raises(UsageError, match="leaked"):
        make("leaked-one").run(replace(victim, leaked={}))


def test_overwriting_leaves_the_owner_a_match(attacked, examiner) -> None:
    assert examiner.verify(attacked["overwrite"].weights).decision == "MATCH"


def test_turned_kernels_answer_turned_images_and_leave_the_owner_a_match(victim, examiner) -> None:
    images = victim.dataset.test_images[:8]
    for quarters in (1, 2, 3):
        turned = make("turn", quarters).run(victim)
        assert examiner.verify(turned.weights).best.view == "turned"
        seen: list[np.ndarray] = []
        assert turned.front is not None
        turned.front(lambda given, seen=seen: seen.append(given) or np.zeros(len(given), np.int64), images)
        assert np.array_equal(np.rot90(seen[0], -quarters, (2, 3)), images)
        again = {
            name: np.rot90(value, -quarters, (2, 3)) if value.ndim == 4 else value
            for name, value in turned.weights.items()
        }
        assert all(np.array_equal(again[name], value) for name, value in victim.model.weights.items())


def test_query_filter_refuses_strange_images_and_few_honest_ones(victim) -> None:
    front = make("query-filter", 0.05).run(victim).front
    honest = front(lambda images: np.zeros(len(images), np.int64), victim.dataset.train_images)
    assert np.mean(honest == ERASURE) == pytest.approx(0.05, abs=0.02)
    strange = np.random.default_rng(0).integers(0, 256, (50, 1, 8, 8)).astype(np.uint8)
    assert np.mean(front(lambda images: np.zeros(len(images), np.int64), strange) == ERASURE) > 0.9


def test_distillation_starts_afresh(attacked, victim) -> None:
    for key in victim.names:
        fresh, old = attacked["distill"].weights[key] != 0, victim.model.mask[key]
        assert abs(np.count_nonzero(fresh) / old.sum() - 1) < 0.05
        assert np.mean(fresh[old]) < 0.2
    assert attacked["distill-other"].architecture.name == "mlp"
    assert attacked["extract-soft"].weights.keys() == victim.model.weights.keys()


def test_attacks_that_train_need_data(victim) -> None:
    poor = replace(victim, dataset=None)
    for name in RUN:
        if ATTACKS[name].trains:
            with pytest.raises(UsageError, match="needs data"):
                make(name).run(poor)


def test_stacks(victim) -> None:
    stack = make("permute+prune-magnitude", 0.3)
    assert repr(stack) == "permute@1+prune-magnitude@0.3"
    assert repr(make("prune-magnitude@0.1+add-on", 0.05)) == "prune-magnitude@0.1+add-on@0.05"
    both = make("finetune@0.01+prune-magnitude@0.5").run(victim)
    assert both.epochs == 1
    kept = sum(np.count_nonzero(both.weights[key]) for key in victim.names)
    assert kept == round(0.5 * victim.model.mask.kept)
    hidden = make("input-flip+input-noise", 1.0).run(victim)
    assert hidden.hidden
    order = []
    hidden.front(lambda images: order.append(images) or np.zeros(len(images), np.int64), victim.dataset.test_images)
    assert not np.array_equal(order[0], victim.dataset.test_images)
    for bad in ("nothing", "permute+nothing", "permute@x", ""):
        with pytest.raises(UsageError):
            make(bad)


def test_widened_networks_are_out_of_reach_of_a_second_symmetry_attack(victim) -> None:
    with pytest.raises(UsageError, match="symmetry"):
        make("dummy-zero+permute").run(victim)


def test_a_stack_meets_folded_weights(victim) -> None:
    result = make("fold-norm+finetune", 0.01).run(victim)
    assert not any("running" in key for key in result.weights)
    assert accuracy(result, victim) > 60


def test_rebuild_refuses_what_does_not_fit(victim) -> None:
    weights = dict(victim.model.weights)
    with pytest.raises(UsageError, match="lack"):
        network(victim.model.architecture, {k: v for k, v in weights.items() if k != "bn1.weight"})
    for extra in ("nowhere.weight", "conv1.strange"):
        with pytest.raises(UsageError, match="has not"):
            network(victim.model.architecture, {**weights, extra: np.zeros(1, np.float32)})


def test_values() -> None:
    assert {item.name for item in fields(TrainingAttack)} == {"strength", "epochs", "lr"}
    assert repr(make("finetune", 0.1)) == "finetune@0.1"
    assert repr(ATTACKS["finetune"](strength=0.1, epochs=7)) == "finetune@0.1[epochs=7]"
