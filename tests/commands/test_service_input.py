"""`sign --service-input`: how services take images is committed in the registration, and every probe follows it."""

import json

import numpy as np
import pytest

from ticketguard.bundle import Bundle
from ticketguard.probe.adapters import Input, input_of, prepare
from ticketguard.triggers.plan import plan_of

SIGN = ("sign", "signed/ticket.safetensors", "--key", "owner.key", "--owner", "Lab", "--out", "new")


def test_what_is_declared_is_registered_and_used(world, tg):
    declared = {"range": "pixels", "layout": "HWC", "size": [12, 16]}
    (world / "input.json").write_text(json.dumps(declared))
    assert tg(*SIGN, "--service-input", "input.json", "--register-only").code == 0
    plan = plan_of(Bundle(world / "new").read_registration()[0])
    assert plan.preprocess["input"] == declared
    wanted = input_of(plan)
    assert wanted == Input(range="pixels", layout="HWC", size=(12, 16))
    assert prepare(np.zeros(plan.shape, dtype=np.uint8), wanted, plan).shape == (12, 16, plan.shape[0])
    assert input_of(plan, {"layout": "CHW"}).layout == "CHW"  # Of one service, at the probe.


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "JSON object"),
        ('{"colour": 1}', "unknown field"),
        ('{"range": "percent"}', "range"),
        ('{"size": [0, 8]}', "size"),
        ('{"size": 8}', "size|malformed"),
        ('{"channels": 4}', "channels"),
        ('{"layout": ["CHW"]}', "layout|malformed"),
    ],
)
def test_what_no_probe_could_use_is_refused(world, tg, content, says):
    (world / "input.json").write_text(content)
    refused = tg(*SIGN, "--service-input", "input.json")
    assert refused.code == 2
    assert any(word in refused.err for word in says.split("|"))
    assert refused.err.count("\n") == 1
    assert not (world / "new").exists()
    assert tg(*SIGN, "--service-input", "input.json", "--no-triggers").code == 2
