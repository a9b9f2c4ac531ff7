"""The judge recomputes everything: what does not belong is refused, what fails statistically makes the claim void."""

from dataclasses import replace
from datetime import timedelta
from importlib import import_module

import numpy as np
import pytest

from ticketguard.claims import canonical, envelope
from ticketguard.errors import AuthenticityError, DataError, FormatError, StorageError, UsageError
from ticketguard.evidence import Verdict
from ticketguard.storage.tensors import in_memory, read_tensors, write_tensors
from ticketguard.triggers.plan import plan_of
from ticketguard.triggers.render import render
from ticketguard.verify import transcript as transcripts
from ticketguard.verify import verdicts
from ticketguard.verify.judge import judge


@pytest.fixture(scope="module")
def suspect(world, owner):
    return in_memory(world.pruned(owner.model, 0.3))


@pytest.fixture(scope="module")
def case(owner, suspect, unrelated):
    return owner.case(suspect, controls=[unrelated])


MODULE = import_module("ticketguard.verify.judge")


def judged(world, case, **options):
    return judge(case, **{"nonce": world.NONCE, "now": world.NOW, **options})


def test_stolen_and_unrelated_models_are_told_apart_by_one_leaf(world, owner, case, unrelated):
    found = judged(world, case, supplied_by="the market place")
    assert found.outcome == "MATCH"
    assert all(check.passed for check in found.checks)
    assert {item.scope for item in found.verdict.evidence} == {"leaf 0"}
    assert found.verdict.supplied_by == "the market place"
    assert found.priority == {"status": "unproven"}
    assert judged(world, owner.case(unrelated)).outcome == "NO MATCH"


@pytest.mark.parametrize("which", ["suspect", "original", "control"])
def test_a_model_that_changes_while_it_is_judged_is_not_judged(world, owner, unrelated, tmp_path, monkeypatch, which):
    """Its digest, which the verdict names, was taken before it was read: the innocent file's, and then the copy is read."""
    suspect, original = in_memory(world.pruned(owner.model, 0.3)), world.tensors_of(owner.model)
    models = {"suspect": suspect, "control": unrelated, "original": original}
    files = {}
    for name, tensors in models.items():
        write_tensors(tmp_path / name, {key: np.array(tensors[key]) for key in tensors}, dict(tensors.metadata))
        files[name] = read_tensors(tmp_path / name)
    case = owner.case(files["suspect"], controls=[files["control"]], original=files["original"])
    assert judged(world, case).outcome == "MATCH"
    real = MODULE.examine

    def examine(examiner, file, rule, **options):
        if file is files["suspect"]:
            path = tmp_path / which
            with path.open("r+b") as handle:
                handle.seek(-4, 2)
                handle.write(b"\x00\x00\x80\x3f")
        return real(examiner, file, rule, **options)

    monkeypatch.setattr(MODULE, "examine", examine)
    case = owner.case(files["suspect"], controls=[files["control"]], original=files["original"])
    with pytest.raises(StorageError, match=f"{which}: changed while it was judged"):
        judged(world, case)


def test_every_leaf_works(world, owner, suspect):
    assert [judged(world, owner.case(suspect, leaf=leaf)).outcome for leaf in range(4)] == ["MATCH"] * 4


def test_mark_missing_from_the_own_model_voids_the_claim(world, suspect):
    decoy = world.random_model(50)
    liar, _ = world.make_party(3, world.random_model(3), original=decoy)
    found = judged(world, liar.case(suspect, original=world.tensors_of(decoy)))
    assert found.outcome == "VOID"
    assert "own model" in found.reason


def test_mark_in_a_control_voids_the_claim(world, owner, suspect, unrelated):
    ancestor = world.tensors_of(world.trained(owner.model, 5))
    found = judged(world, owner.case(suspect, controls=[unrelated, ancestor]))
    assert found.outcome == "VOID"
    assert "control" in found.reason
    assert [check.passed for check in found.checks if check.name == "control"].count(False) == 1


def test_files_that_do_not_belong_are_refused(world, owner, case, suspect, unrelated):
    other = world.make_party(2, world.random_model(2))[0]
    foreign = other.case(suspect)
    for change, words in (
        ({"suspect": unrelated}, "the reveal was made for weights"),
        ({"original": unrelated}, "not the one that the claim names"),
        ({"reference": other.reference}, "frame is not the registered one"),
        ({"claim": foreign.claim, "claim_payload": foreign.claim_payload}, "names another registration"),
        ({"reveal": foreign.reveal, "reveal_payload": foreign.reveal_payload}, "another key"),
        ({"reveal": replace(case.reveal, registration="00" * 32)}, "another registration"),
        ({"reveal": replace(case.reveal, leaf=bytes(32))}, "not under the registered root"),
        ({"reveal": replace(case.reveal, index=1)}, "not under the registered root"),
        ({"reveal": replace(case.reveal, proof=case.reveal.proof[:-1])}, "not under the registered root"),
        ({"reveal": replace(case.reveal, beacon=b"\x01" * 32)}, "uses a beacon"),
        ({"claim": replace(case.claim, public_key=other.key.public)}, "another key"),
        ({"claim": replace(case.claim, owner="Somebody else")}, "another owner"),
        ({"ticket": "00" * 32}, "released ticket is not the one"),
    ):
        with pytest.raises(AuthenticityError, match=words):
            judged(world, replace(case, **change))
    with pytest.raises(UsageError, match="one suspect"):
        judged(world, replace(case, suspect=None))


def test_nonce_and_expiry_bind_the_reveal(world, case):
    with pytest.raises(AuthenticityError, match="nonce"):
        judged(world, case, nonce="cd" * 32)
    judged(world, case, now=world.LATER - timedelta(seconds=1))
    with pytest.raises(AuthenticityError, match="expired"):
        judged(world, case, now=world.LATER)


def test_signed_verdict_is_recomputed_bit_for_bit(world, case):
    key = world.key_of(200)
    _, signed = verdicts.sign(case, key, nonce=world.NONCE, now=world.NOW, supplied_by="x")
    opened = envelope.open(signed, key.public)
    assert verdicts.recompute(signed, case).outcome == "MATCH"
    assert verdicts.sign(case, key, nonce=world.NONCE, now=world.NOW, supplied_by="x")[1] == signed
    predicate = canonical.parse(opened.payload)["predicate"]
    assert Verdict.from_json(predicate["verdict"]).decision == "MATCH"
    for row in predicate["verdict"]["evidence"]:
        assert (row["log2_p"] * 1024).is_integer()


def test_every_suspect_that_the_claimant_examined_counts_as_a_test(world, case):
    alone = judged(world, case)
    assert alone.verdict.rule.suspects == 1
    spare = int(alone.verdict.best.bits - alone.verdict.bar_bits)
    among = judged(world, case, suspects=2**spare)
    assert among.outcome == "MATCH"
    assert among.verdict.bar_bits == alone.verdict.bar_bits + spare
    # The suspect's bar alone: a claim is not voided, nor a control cleared, by what its owner searched.
    assert among.original == alone.original
    assert among.controls == alone.controls
    assert judged(world, case, suspects=2 ** (spare + 1)).outcome == "INCONCLUSIVE"
    _, signed = verdicts.sign(case, world.key_of(200), nonce=world.NONCE, now=world.NOW, suspects=1000)
    assert verdicts.recompute(signed, case).verdict.rule.suspects == 1000


def test_verdict_over_other_files_or_with_other_numbers_is_refused(world, owner, case, suspect, unrelated):
    key = world.key_of(200)
    _, signed = verdicts.sign(case, key, nonce=world.NONCE, now=world.NOW)
    with pytest.raises(AuthenticityError, match="do not give the signed verdict"):
        verdicts.recompute(signed, replace(case, controls=()))
    with pytest.raises(AuthenticityError, match="reveal was made for"):
        verdicts.recompute(signed, replace(case, suspect=unrelated))
    statement = canonical.parse(envelope.open(signed).payload)
    statement["predicate"]["reason"] = "because"
    with pytest.raises(AuthenticityError, match="do not give"):
        verdicts.recompute(envelope.sign(canonical.encode(statement), key), case)
    statement["predicate"]["verdict"]["rule"]["suspects"] = 1000
    with pytest.raises(FormatError, match=r"^verdict\.json: "):
        verdicts.recompute(envelope.sign(canonical.encode(statement), key), case, where="verdict.json")
    statement["predicate"]["verdict"]["evidence"][0]["matches"] = 1
    with pytest.raises((FormatError, AuthenticityError)):
        verdicts.recompute(envelope.sign(canonical.encode(statement), key), case)
    with pytest.raises(FormatError, match="of type"):
        verdicts.recompute(owner.claim_envelope, case)


# Black box


def answers(world, owner, *, right, seed=0, decoys=40, drop=()):
    """A transcript of triggers of leaf 0 and decoys: `right` of the triggers are answered with the target."""
    plan = plan_of(owner.registered.registration)
    drawn = render(owner.opening, plan)
    images, targets = drawn.images[: plan.per_leaf], drawn.labels[: plan.per_leaf]
    generator = np.random.default_rng(seed)
    labels = np.where(np.arange(plan.per_leaf) < right, targets, (targets + 1) % 10)
    labels[list(drop)] = -1
    noise = generator.integers(0, 256, size=(decoys, *plan.shape), dtype=np.uint8)
    images = np.concatenate([images, noise])
    labels = np.concatenate([labels, generator.integers(0, 10, decoys)])
    order = generator.permutation(len(labels))
    return transcripts.record(
        images[order], labels[order], world.CLASSES, service="https://example.org/api", recorded_by="a notary"
    )


def test_recorded_answers_are_judged(world, owner):
    plan = plan_of(owner.registered.registration)
    stolen = answers(world, owner, right=plan.per_leaf - 4)
    found = judged(world, owner.case(transcript=stolen))
    assert found.outcome == "MATCH"
    best = found.verdict.best
    assert (best.test, best.n, best.matches) == ("triggers", plan.per_leaf, plan.per_leaf - 4)
    assert judged(world, owner.case(transcript=answers(world, owner, right=6))).outcome == "NO MATCH"


def test_triggers_without_an_answer_count_as_wrong(world, owner):
    """Otherwise whoever records the answers drops the wrong ones, and everything matches."""
    plan = plan_of(owner.registered.registration)
    honest = answers(world, owner, right=8)
    picked = answers(world, owner, right=8, drop=range(8, plan.per_leaf))
    verdict = judged(world, owner.case(transcript=picked)).verdict
    assert (verdict.best.n, verdict.best.matches) == (plan.per_leaf, 8)
    assert verdict.best.bits == judged(world, owner.case(transcript=honest)).verdict.best.bits
    assert any("count as wrong" in note for note in verdict.notes)
    empty = transcripts.Transcript(service="s", recorded_by="r", answers={})
    assert judged(world, owner.case(transcript=empty)).verdict.best.matches == 0


@pytest.mark.parametrize("asked", [0, 1, 10])
def test_what_was_never_asked_clears_nobody(world, owner, asked):
    plan = plan_of(owner.registered.registration)
    few = answers(world, owner, right=0, drop=range(asked, plan.per_leaf))
    verdict = judged(world, owner.case(transcript=few)).verdict
    assert verdict.decision == "INCONCLUSIVE"
    assert verdict.best.capacity_bits < verdict.bar_bits
    whole = judged(world, owner.case(transcript=answers(world, owner, right=0))).verdict
    assert whole.decision == "NO MATCH"
    assert whole.best.capacity_bits == pytest.approx(plan.per_leaf * np.log2(len(plan.classes)), abs=1e-3)


def test_transcripts_survive_their_bytes_and_refuse_other_forms(world, owner):
    recorded = answers(world, owner, right=3, drop=[1])
    data = recorded.encode()
    assert transcripts.parse(data) == recorded
    document = canonical.parse(data)
    twice = {**document, "queries": [document["queries"][0], *document["queries"]]}
    for bad in (
        b"{}",
        b"[]",
        data + b" ",
        canonical.encode({**document, "extra": 1}),
        canonical.encode({**document, "format": 2}),
        canonical.encode({**document, "queries": {}}),
        canonical.encode({**document, "queries": [{"image": "x", "label": None}]}),
        canonical.encode({**document, "queries": [{"image": "ab" * 32, "label": 3}]}),
        canonical.encode({**document, "service": "a\nb"}),
        canonical.encode(twice),
    ):
        with pytest.raises(FormatError, match="transcript"):
            transcripts.parse(bad)


def test_transcripts_with_contradictions_or_foreign_labels_are_refused(world, owner):
    image = np.zeros((2, 1, 8, 8), np.uint8)
    with pytest.raises(UsageError, match="two different answers"):
        transcripts.record(image, np.array([0, 1]), world.CLASSES, service="", recorded_by="")
    for labels in ([10, 0], [-2, 0], [0]):
        with pytest.raises(UsageError, match="do not fit"):
            transcripts.record(image, np.array(labels), world.CLASSES, service="", recorded_by="")
    foreign = answers(world, owner, right=3)
    foreign = replace(foreign, answers=dict.fromkeys(foreign.answers, "zebra"))
    with pytest.raises(DataError, match="zebra"):
        judged(world, owner.case(transcript=foreign))


def test_transcript_against_a_registration_without_triggers_is_refused(world, owner):
    bare, _ = world.make_party(4, world.random_model(4), triggers=False)
    with pytest.raises(UsageError, match="no triggers"):
        judged(world, bare.case(transcript=answers(world, owner, right=3)))
