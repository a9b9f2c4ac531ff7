"""Checkpoints in the authors' layout: names of their own, DataParallel's prefix, missing and misfitting parts."""

import numpy as np
import pytest
import torch

from ticketguard.errors import FormatError
from ticketguard.integrations.authors import convert
from ticketguard.models import build, prunable
from ticketguard.tickets import Architecture, Model
from ticketguard.training import module_of, weights_of


def theirs(name):
    """A name as the authors' ResNet has it: layer1.0.conv1 for our layers.0.0.conv1."""
    parts = name.split(".")
    return f"layer{int(parts[1]) + 1}." + ".".join(parts[2:]) if parts[0] == "layers" else name


@pytest.fixture(scope="module")
def checkpoint():
    """resnet20 with 7 classes in the authors' layout, as one flat mapping of dotted names."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    module = build(Architecture(name="resnet20", arguments={"classes": 7}))
    masked = set(prunable(module))
    tensors = {
        "state_dict.module.normalize.mean": np.array([0.1, 0.2, 0.3], np.float32),
        "state_dict.module.normalize.std": np.array([0.4, 0.5, 0.6], np.float32),
        "optimizer.state.0.momentum_buffer": np.zeros(3, np.float32),
    }
    for name, array in weights_of(module).items():
        if name in masked:
            tensors[f"state_dict.module.{theirs(name)}_orig"] = array
            tensors[f"state_dict.module.{theirs(name)}_mask"] = (rng.random(array.shape) < 0.3).astype(np.float32)
        else:
            tensors[f"state_dict.module.{theirs(name)}"] = array
        tensors[f"init_weight.module.{theirs(name)}"] = array + 1 if array.dtype == np.float32 else array
    return tensors


def test_names_are_mapped_in_order_and_the_network_takes_them(checkpoint):
    ticket = convert(checkpoint, where="x", arch="resnet20")
    assert not isinstance(ticket, Model)
    assert ticket.architecture.arguments == {"classes": 7}
    assert ticket.provenance["input"]["mean"] == [0.1, 0.2, 0.3]
    assert "layers.2.1.conv2.weight" in ticket.mask
    kept = ticket.mask["layers.2.1.conv2.weight"]
    assert np.array_equal(kept, checkpoint["state_dict.module.layer3.1.conv2.weight_mask"] != 0)
    expected = np.where(kept, checkpoint["init_weight.module.layer3.1.conv2.weight"], 0)
    assert np.array_equal(ticket.weights["layers.2.1.conv2.weight"], expected)
    assert module_of(ticket)(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_without_an_architecture_names_stay(checkpoint):
    ticket = convert(checkpoint, where="x")
    assert ticket.architecture.name is None
    assert "layer3.1.conv2.weight" in ticket.mask


def test_trained_weights_on_demand_and_without_rewind_weights(checkpoint):
    trained = convert(checkpoint, where="x", arch="resnet20", trained=True)
    bare = convert(
        {k: v for k, v in checkpoint.items() if not k.startswith("init_weight.")}, where="x", arch="resnet20"
    )
    for model in (trained, bare):
        assert isinstance(model, Model)
        name = "layers.0.0.conv1.weight"
        expected = np.where(model.mask[name], checkpoint["state_dict.module.layer1.0.conv1.weight_orig"], 0)
        assert np.array_equal(model.weights[name], expected)


def test_misfits_are_named(checkpoint):
    with pytest.raises(FormatError, match="not a resnet56"):
        convert(checkpoint, where="x", arch="resnet56")
    with pytest.raises(FormatError, match="lacks layer2"):
        convert({k: v for k, v in checkpoint.items() if k != "init_weight.module.layer2.1.conv1.weight"}, where="x")
    with pytest.raises(FormatError, match="has shape"):
        convert({**checkpoint, "init_weight.module.layer2.1.conv1.weight": np.ones(3)}, where="x")
    with pytest.raises(FormatError, match="no sparse checkpoint"):
        convert({"a.weight": np.ones((2, 2))}, where="x")
