from __future__ import annotations

import pytest

from ticketguard.errors import UsageError
from ticketguard.finding import find, find_many
from ticketguard.storage.tensors import read_tensors


def bits(path):
    return {name: array.tobytes() for name, array in read_tensors(path).items()}


@pytest.mark.slow
def test_searches_side_by_side_find_what_each_finds_alone(tiny, tmp_path):
    found = dict(find_many(tiny.config(), (1, 2), tiny.dataset(), tmp_path / "many", jobs=2, threads=1))
    assert set(found) == {1, 2}
    for seed, result in found.items():
        alone = find(tiny.config(seed=seed), tiny.dataset(), tmp_path / f"alone-{seed}", threads=1)
        assert result.rounds == alone.rounds
        for name in ("ticket", "rewind", "model"):
            assert bits(tmp_path / "many" / f"seed-{seed}" / f"{name}.safetensors") == bits(
                tmp_path / f"alone-{seed}" / f"{name}.safetensors"
            )
    assert bits(tmp_path / "alone-1" / "ticket.safetensors") != bits(tmp_path / "alone-2" / "ticket.safetensors")


def test_one_job_needs_no_process_and_goes_on_where_it_was(tiny, tmp_path):
    first = find_many(tiny.config(), (4, 3), tiny.dataset(), str(tmp_path), threads=1)
    assert next(first)[0] == 4
    first.close()
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["seed-4"]
    assert [seed for seed, _ in find_many(tiny.config(), (4, 3), tiny.dataset(), tmp_path, threads=1)] == [4, 3]


@pytest.mark.parametrize(("seeds", "jobs"), [((), 1), ((1, 1), 1), ((1, 2), 0)])
def test_searches_that_cannot_be_told_apart_are_refused(tiny, tmp_path, seeds, jobs):
    with pytest.raises(UsageError, match="at least one job, and different seeds"):
        next(find_many(tiny.config(), seeds, tiny.dataset(), tmp_path, jobs=jobs))


@pytest.mark.slow
def test_what_a_process_refuses_is_raised_here(tiny, tmp_path):
    with pytest.raises(UsageError, match="no parameter fc9"):
        list(find_many(tiny.config(layers=("fc9",)), (1, 2), tiny.dataset(), tmp_path, jobs=2))
