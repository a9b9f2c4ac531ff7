"""Scans: several processes give the same verdicts in the same order, and no file stays open."""

from pathlib import Path

import pytest

from ticketguard.errors import StorageError, TicketguardError, UsageError
from ticketguard.evidence import Verdict
from ticketguard.verify.scan import MOST_TOGETHER, jobs_for, scan

SUSPECTS = Path(__file__).parents[2] / "fixtures" / "bundle-v1" / "suspects"


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    good = [SUSPECTS / f"{name}.safetensors" for name in ("unrelated", "half", "permuted", "pruned")]
    return [good[0], tmp_path / "bad.safetensors", tmp_path / "missing.safetensors", *good[1:]]


def plain(results):
    return [
        (path, found.to_json() if isinstance(found, Verdict) else (type(found), str(found)))
        for path, found in results.items()
    ]


@pytest.mark.slow
def test_processes_give_what_one_gives_in_the_same_order(signed, paths):
    alone = scan(signed.examiner, paths)
    assert [type(found) for found in alone.values()] == [
        Verdict,
        *[type(alone[paths[1]]), StorageError],
        *[Verdict] * 3,
    ]
    assert all(found.rule.suspects == 6 for found in alone.values() if isinstance(found, Verdict))
    assert plain(scan(signed.examiner, paths, jobs=2)) == plain(alone)


def test_a_bug_on_one_suspect_hides_no_other(signed, paths, monkeypatch, capsys):
    verify = type(signed.examiner).verify

    def fails_on_pruned(self, weights, **options):
        if weights.path == paths[-1]:
            raise ValueError("operands could not be broadcast together")
        return verify(self, weights, **options)

    monkeypatch.setattr(type(signed.examiner), "verify", fails_on_pruned)
    found = scan(signed.examiner, [paths[0], paths[-1]])
    assert isinstance(found[paths[0]], Verdict)
    assert "bug in ticketguard: ValueError: operands" in str(found[paths[-1]])
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert "in fails_on_pruned" in said
    # Alone it hides nobody, and shows its traceback like every bug.
    with pytest.raises(ValueError, match="operands"):
        scan(signed.examiner, [paths[-1]])


def test_an_error_keeps_no_file_mapped(signed, tmp_path):
    data = (SUSPECTS / "half.safetensors").read_bytes()
    short = tmp_path / "short.safetensors"
    short.write_bytes(data[:-1])
    found = scan(signed.examiner, [short, SUSPECTS / "half.safetensors"])
    assert isinstance(found[short], TicketguardError)
    assert found[short].__traceback__ is None
    assert found[short].__context__ is None
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(tmp_path) not in maps.read_text()
        assert str(SUSPECTS) not in maps.read_text()


@pytest.mark.parametrize("jobs", [0, -1, 257])
def test_an_impossible_number_of_processes_is_refused(signed, paths, jobs):
    with pytest.raises(UsageError, match="processes"):
        scan(signed.examiner, paths, jobs=jobs)


def test_no_suspects_no_results(signed):
    assert scan(signed.examiner, [], jobs=2) == {}


def test_processes_are_started_for_many_suspects_only_and_few_for_large_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(4)), raising=False)
    small = tmp_path / "small.safetensors"
    small.write_bytes(b"x")
    large = tmp_path / "shards" / "model.safetensors.index.json"
    large.parent.mkdir()
    large.touch()
    with (large.parent / "one.safetensors").open("wb") as handle:
        handle.truncate(MOST_TOGETHER // 3)
    (large.parent / "broken").symlink_to("nowhere")
    assert jobs_for([small] * 99) == 1
    assert jobs_for([small] * 100) == 2
    assert jobs_for([small] * 1000) == 4
    assert jobs_for([small] * 999 + [large]) == 3
    assert jobs_for([small] * 999 + [large.parent]) == 3
    assert jobs_for([small] * 999 + [tmp_path / "missing"]) == 4
    with (large.parent / "two.safetensors").open("wb") as handle:
        handle.truncate(MOST_TOGETHER)
    assert jobs_for([small] * 999 + [large]) == 1
