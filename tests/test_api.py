"""The public Python API: values in, values out, the same answers as the commands."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ticketguard
from ticketguard import api
from ticketguard.bundle import Bundle
from ticketguard.claims import vault
from ticketguard.claims.keys import SecretKey
from ticketguard.errors import DataError, TicketguardError, UsageError
from ticketguard.tickets import Architecture, Ticket, read_ticket
from ticketguard.triggers.pictures import write_folder
from ticketguard.triggers.render import render
from ticketguard.verify.verifier import Examiner

FOLDER = Path(__file__).parents[1] / "fixtures" / "bundle-v1"
SUSPECTS = FOLDER / "suspects"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Keys that were derived once, and cheap ones for what is written here."""
    known = {}
    number, derive = vault.KDFS["argon2id"]

    def remembered(passphrase, salt):
        if passphrase == b"cheap":
            return (salt + bytes(32))[:32]
        if (passphrase, salt) not in known:
            known[passphrase, salt] = derive(passphrase, salt)
        return known[passphrase, salt]

    monkeypatch.setattr(vault, "KDFS", {"argon2id": (number, remembered)})


@pytest.fixture(scope="module")
def ticket():
    return read_ticket(FOLDER / "ticket.safetensors")


@pytest.fixture(scope="module")
def signed(ticket):
    return ticketguard.sign(ticket, SecretKey.from_seed(bytes(32)), owner="Lab", master=bytes(32), nonce=bytes(32))


def test_every_public_name_is_importable_and_listed():
    for name in ticketguard.__all__:
        value = getattr(ticketguard, name)
        assert name == "ATTACKS" or value.__name__ == name
    assert set(ticketguard.__all__) <= set(dir(ticketguard))
    with pytest.raises(AttributeError, match="no attribute 'steal'"):
        _ = ticketguard.steal


@pytest.mark.parametrize("first", ["ticketguard.sign", "ticketguard.Examiner", "import ticketguard.verify.verifier"])
def test_verify_is_the_function_whatever_was_imported_before(first):
    program = f"import ticketguard\n{first}\nprint(ticketguard.verify.__name__, ticketguard.verify.__module__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "verify ticketguard.api\n"


def test_importing_the_package_and_verify_loads_no_torch():
    program = "import sys, ticketguard; ticketguard.verify; ticketguard.sign; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_sign_gives_values_that_verify_without_a_file(signed):
    verdict = ticketguard.verify(signed.ticket.weights, signed=signed)
    assert verdict.decision == "MATCH"
    assert verdict.best.matches == signed.embedded.informative


def test_sign_reads_the_task_from_the_ticket_and_says_what_is_missing(ticket, signed):
    plan = api.trigger_plan(ticket, leaves=4)
    assert (plan.per_leaf, plan.classes, plan.shape) == (64, tuple("0123456789"), (1, 8, 8))
    assert any("architecture is unknown" in note for note in signed.notes)
    bare = Ticket(architecture=Architecture(), weights=ticket.weights, mask=ticket.mask)
    notes = ticketguard.sign(bare, SecretKey.generate(), owner="Lab").notes
    assert any("no triggers" in note for note in notes)


def test_written_folder_verifies_by_path_bundle_and_text(signed, tmp_path):
    bundle = signed.write(tmp_path / "signed", "cheap")
    for form in (bundle, bundle.folder, str(bundle.folder)):
        assert ticketguard.verify(bundle.ticket, signed=form, passphrase="cheap").decision == "MATCH"
    with pytest.raises(UsageError, match="exists already"):
        signed.write(tmp_path / "signed", "cheap")


def test_a_passphrase_is_needed_for_a_folder():
    with pytest.raises(UsageError, match="passphrase"):
        ticketguard.verify(SUSPECTS / "half.safetensors", signed=FOLDER)


def test_nothing_to_verify_is_refused(signed):
    with pytest.raises(UsageError, match="nothing to verify"):
        ticketguard.verify(signed=signed)


def test_a_callable_answers_the_triggers(signed):
    known = render(signed.opening, api.plan_of(signed.opening.registration))
    asked = []

    def predict(images):
        asked.append((images.dtype, images.shape))
        return known.labels

    verdict = ticketguard.verify(signed=signed, predictions=predict, supplied_by="the owner")
    assert asked == [(np.uint8, (256, 1, 8, 8))]
    assert verdict.decision == "MATCH"
    assert verdict.supplied_by == "the owner"
    guessing = ticketguard.verify(signed=signed, predictions=lambda images: np.zeros(len(images), int))
    assert guessing.decision == "NO MATCH"


@pytest.mark.parametrize("labels", [np.zeros(255, int), np.zeros((256, 10), int), np.full(256, 10), np.full(256, -2)])
def test_answers_that_do_not_fit_are_refused(signed, labels):
    with pytest.raises(TicketguardError):
        ticketguard.verify(signed=signed, predictions=labels)


def test_predictions_without_triggers_are_refused(ticket):
    plain = ticketguard.sign(ticket, SecretKey.generate(), owner="Lab", triggers=False)
    for predictions in (np.zeros(256, int), lambda images: np.zeros(len(images), int)):
        with pytest.raises(UsageError, match="no triggers"):
            ticketguard.verify(signed=plain, predictions=predictions)


def test_answers_may_be_a_list(signed):
    known = render(signed.opening, api.plan_of(signed.opening.registration))
    assert ticketguard.verify(signed=signed, predictions=known.labels.tolist()).decision == "MATCH"
    assert ticketguard.verify(signed=signed, predictions=lambda images: known.labels.tolist()).decision == "MATCH"


@pytest.mark.parametrize(
    "labels",
    [[0.5] * 256, ["3"] * 256, [None] * 256, [True] * 256, [[1], [1, 2]], [2**64 - 1] * 256, [2**70] * 256, [], 3],
)
def test_answers_that_are_no_integers_are_refused(signed, labels):
    with pytest.raises(DataError, match="predictions"):
        ticketguard.verify(signed=signed, predictions=labels)
    with pytest.raises(DataError, match="predictions"):
        ticketguard.verify(signed=signed, predictions=lambda images: labels)


def test_an_examiner_without_a_suspect_says_so(signed):
    with pytest.raises(UsageError, match="nothing to verify"):
        api.examiner_of(signed).verify()


@pytest.mark.parametrize(
    "option", [{"service_input": {"range": "unit"}}, {"own_images": np.zeros((1, 1, 8, 8), "uint8")}]
)
def test_options_of_triggers_are_refused_without_triggers(ticket, option):
    with pytest.raises(UsageError, match=next(iter(option))):
        ticketguard.sign(ticket, SecretKey.generate(), owner="Lab", triggers=False, **option)


def test_a_signed_ticket_is_shown_without_its_secrets(ticket):
    signed = ticketguard.sign(ticket, SecretKey.generate(), owner="Lab")
    shown = repr(signed) + repr(signed.opening)
    for secret in (signed.registered.secret.master, *signed.opening.leaves.values()):
        assert repr(secret) not in shown


def test_folders_may_be_text(signed, tmp_path):
    written = signed.write(str(tmp_path / "signed"), "cheap")
    assert written == Bundle(tmp_path / "signed") == Bundle(str(tmp_path / "signed"))
    assert written.read_registration()[0] == signed.registered.registration
    assert set(api.scan(api.examiner_of(signed), [str(SUSPECTS / "half.safetensors")])) == {
        SUSPECTS / "half.safetensors"
    }


def test_scan_gives_errors_in_place_of_verdicts(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    examiner = api.examiner_of(FOLDER, "fixture")
    assert isinstance(examiner, Examiner)
    paths = [SUSPECTS / "half.safetensors", tmp_path / "bad.safetensors", SUSPECTS / "unrelated.safetensors"]
    found = api.scan(examiner, paths)
    assert list(found) == paths
    assert found[paths[0]].decision == "MATCH"
    assert isinstance(found[paths[1]], TicketguardError)
    assert found[paths[2]].decision == "NO MATCH"
    assert found[paths[0]].rule.suspects == 3


def test_own_images_become_the_triggers(ticket):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (256, 1, 8, 8), dtype=np.uint8)
    made = ticketguard.sign(ticket, SecretKey.generate(), owner="Lab", own_images=images)
    assert len(made.registered.registration.carriers) == 256
    found = api.triggers_of(made.opening, own_images=images)
    assert np.array_equal(found.images, images)
    with pytest.raises(UsageError, match="own images"):
        api.triggers_of(made.opening)


def test_a_callable_is_asked_about_own_images(ticket, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (256, 1, 8, 8), dtype=np.uint8)
    made = ticketguard.sign(ticket, SecretKey.generate(), owner="Lab", own_images=images)
    labels = api.triggers_of(made.opening, own_images=images).labels

    def predict(asked):
        assert np.array_equal(asked, images)
        return labels

    assert ticketguard.verify(signed=made, predictions=predict, own_images=images).decision == "MATCH"
    bundle = made.write(tmp_path / "signed", "cheap")
    write_folder(bundle.trigger_images, images)
    assert ticketguard.verify(signed=bundle.folder, passphrase="cheap", predictions=predict).decision == "MATCH"


def test_rewind_weights_are_read_by_parameter_name(tmp_path, ticket):
    from ticketguard.storage.tensors import write_tensors

    ones = np.ones((2, 2), np.float32)
    write_tensors(tmp_path / "rewind.safetensors", {"weight/fc.weight": ones, "momentum/fc.weight": 2 * ones}, {})
    found = api.read_rewind(tmp_path / "rewind.safetensors")
    assert list(found) == ["fc.weight"]
    assert np.array_equal(found["fc.weight"], ones)
    write_tensors(tmp_path / "state.safetensors", {"fc.weight": ones}, {})
    assert list(api.read_rewind(tmp_path / "state.safetensors")) == ["fc.weight"]


@pytest.mark.slow
def test_training_with_an_opening_learns_the_triggers(tiny_signed):
    from ticketguard.training import module_of, predict

    module = module_of(tiny_signed.model)
    verdict = ticketguard.verify(
        signed=tiny_signed.signed, predictions=lambda images: np.asarray(predict(module, images, tiny_signed.data))
    )
    # A dozen epochs of a tiny network: far beyond chance is enough here, the bars are measured on digits.
    assert verdict.against_chance_bits > verdict.rule.chance_bits
    assert all(
        np.array_equal(tiny_signed.model.mask[name], bits) for name, bits in tiny_signed.signed.ticket.mask.items()
    )
    assert ticketguard.verify(tiny_signed.model.weights, signed=tiny_signed.signed).decision == "MATCH"


def test_symmetry_of_a_known_network_is_traced_and_of_an_unknown_one_noted(tiny_signed, ticket):
    symmetry, notes = api.symmetry_for(tiny_signed.ticket)
    assert [group.size for group in symmetry.groups] == [32, 64, 128]
    assert notes == ()
    assert api.symmetry_for(ticket)[0] is None
    with pytest.raises(UsageError, match="unknown architecture"):
        api.symmetry_for(Ticket(architecture=Architecture(name="brain"), weights={}, mask=ticket.mask.__class__({})))
