"""`sign --trigger-images`: the owner's own pictures are registered, kept, exported, and asked for when they are missing."""

import shutil

import numpy as np
import pytest

from ticketguard.bundle import Bundle
from ticketguard.tickets import read_ticket, task_of
from ticketguard.triggers.pictures import read_folder, write_folder
from ticketguard.triggers.plan import plan_of

SIGN = ("sign", "signed/ticket.safetensors", "--key", "owner.key", "--owner", "Lab", "--out", "new")


def own(world, count):
    shape = task_of(read_ticket(world / "signed" / "ticket.safetensors")).shape
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    write_folder(world / "own", images)
    return images


@pytest.mark.slow
def test_own_images_go_from_sign_to_export(world, tg):
    images = own(world, 400)
    assert tg(*SIGN, "--trigger-images", "own").code == 0
    bundle = Bundle(world / "new")
    plan = plan_of(bundle.read_registration()[0])
    assert plan.source == "owner"
    np.testing.assert_array_equal(bundle.own_images(bundle.read_registration()[0]), images[: plan.total])
    assert tg("triggers", "export", "new", "--out", "queries").code == 0
    np.testing.assert_array_equal(read_folder(world / "queries", plan.shape), images[: plan.total])
    shutil.rmtree(bundle.trigger_images)
    missing = tg("triggers", "export", "new", "--out", "again")
    assert missing.code == 2
    assert "trigger-images" in missing.err


def test_too_few_or_unusable_images_are_refused(world, tg):
    own(world, 7)
    few = tg(*SIGN, "--trigger-images", "own")
    assert few.code == 2
    assert "uint8 images" in few.err
    assert not (world / "new").exists()
    assert tg(*SIGN, "--trigger-images", "own", "--no-triggers").code == 2
    assert tg(*SIGN, "--trigger-images", "elsewhere").code == 2
