"""Importance scores against finite differences and the identities that define them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ticketguard.errors import UsageError
from ticketguard.finding.importance import (
    SCORES,
    Subject,
    attributions,
    gradients,
    hessian_product,
    score,
    synflow,
    taylor,
)
from ticketguard.graph.scores import edge_weight_product
from ticketguard.masks import Mask


class Small(nn.Module):
    """A convolution, batch norm, a residual sum and a classifier; smooth, so that differences converge."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.b = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.tanh(self.bn(self.a(x)))
        return self.fc((x + self.b(x)).mean(dim=(2, 3)))


@pytest.fixture
def subject():
    torch.manual_seed(0)
    module = Small().double()
    rng = np.random.default_rng(1)
    shapes = {name: module.get_parameter(name).shape for name in ("a.weight", "b.weight")}
    # Some kernels are empty, so that the channel graph is not complete and its scores differ.
    mask = Mask(
        {name: (rng.random(shape) < 0.6) & (rng.random((*shape[:2], 1, 1)) < 0.6) for name, shape in shapes.items()}
    )
    with torch.no_grad():
        for name, bits in mask.items():
            module.get_parameter(name).mul_(torch.from_numpy(bits.copy()))
        module.bn.running_mean.normal_()
        module.bn.running_var.uniform_(0.5, 2)
    images = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    return Subject(module=module, mask=mask, images=images, labels=torch.tensor([0, 1, 2, 0, 1]))


def loss_at(subject, name, weights):
    module = subject.module.eval()
    parameter = module.get_parameter(name)
    kept = parameter.detach().clone()
    with torch.no_grad():
        parameter.copy_(weights)
        value = float(F.cross_entropy(module(subject.images), subject.labels).detach())
        parameter.copy_(kept)
    return value


def test_gradients_equal_finite_differences(subject):
    name = "b.weight"
    weights = subject.module.get_parameter(name).detach().clone()
    found = gradients(subject)[name]
    for index in [(0, 0, 1, 1), (3, 2, 0, 1), (1, 3, 2, 2)]:
        step = torch.zeros_like(weights)
        step[index] = 1e-5
        difference = (loss_at(subject, name, weights + step) - loss_at(subject, name, weights - step)) / 2e-5
        assert difference == pytest.approx(float(found[index]), rel=1e-5, abs=1e-9)
    expected = (weights * found).abs().numpy()
    assert np.allclose(taylor(subject)[name][subject.mask[name]], expected[subject.mask[name]])


def test_the_hessian_product_equals_differences_of_gradients(subject):
    found = hessian_product(subject)
    step = 1e-5
    ahead, behind = gradients(subject, 1 + step), gradients(subject, 1 - step)
    for name, value in found.items():
        assert torch.allclose(value, (ahead[name] - behind[name]) / (2 * step), rtol=1e-5, atol=1e-8)


def test_attributions_sum_to_the_loss_difference(subject):
    found = sum(float(value.sum()) for value in attributions(subject, steps=400).values())
    module = subject.module.eval()
    full = float(F.cross_entropy(module(subject.images), subject.labels).detach())
    with torch.no_grad():
        for name in subject.mask:
            module.get_parameter(name).zero_()
    empty = float(F.cross_entropy(module(subject.images), subject.labels).detach())
    assert found == pytest.approx(full - empty, abs=1e-5)


def test_synflow_equals_the_path_products_of_the_channel_graph():
    # One pixel: every path through a kernel uses its only weight, so both count the same products.
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    mask = Mask({"0.weight": np.random.default_rng(0).random((4, 3)) < 0.7, "2.weight": np.ones((4, 4), dtype=bool)})
    with torch.no_grad():
        module[0].weight.mul_(torch.from_numpy(mask["0.weight"].copy()))
    subject = Subject(module=module, mask=mask, images=torch.randn(2, 3), labels=torch.tensor([0, 1]))
    flow = synflow(subject)
    products = edge_weight_product(subject.graph, subject.weights, mask)
    for name, bits in mask.items():
        assert np.allclose(flow[name][bits], np.exp(products[name][bits]), rtol=1e-5)


def test_synflow_of_a_network_that_is_one_layer():
    module = nn.Linear(3, 4)
    mask = Mask({"weight": np.ones((4, 3), dtype=bool)})
    flow = synflow(Subject(module=module, mask=mask, images=torch.randn(2, 3), labels=torch.tensor([0, 1])))
    assert np.allclose(flow["weight"], np.abs(module.weight.detach().numpy()))


def test_synflow_conserves_flow_through_batch_norm(subject):
    module = nn.Sequential(subject.module.a, subject.module.bn, nn.ReLU(), subject.module.b)
    mask = Mask({"0.weight": subject.mask["a.weight"], "3.weight": subject.mask["b.weight"]})
    flow = synflow(Subject(module=module, mask=mask, images=subject.images, labels=subject.labels))
    sums = [values[mask[name]].sum() for name, values in flow.items()]
    assert sums[0] == pytest.approx(sums[1])


@pytest.mark.parametrize("name", SCORES)
def test_every_score_covers_the_mask_and_leaves_the_module_alone(name, subject):
    subject.module.float()
    narrow = Subject(
        module=subject.module, mask=subject.mask, images=subject.images.float(), labels=subject.labels, seed=3
    )
    before = {key: value.clone() for key, value in subject.module.state_dict().items()}
    found = score(name, narrow)
    assert list(found) == list(subject.mask)
    for layer, bits in subject.mask.items():
        assert found[layer].shape == bits.shape
        assert (found[layer][~bits] == -np.inf).all()
        assert len(np.unique(found[layer][bits])) >= 2
    assert all(torch.equal(value, before[key]) for key, value in subject.module.state_dict().items())
    assert subject.module.training
    again = score(name, narrow)
    assert all(np.array_equal(found[layer], again[layer]) for layer in found)


def test_unknown_scores_and_broken_networks_are_refused(subject):
    with pytest.raises(UsageError, match="unknown score"):
        score("guess", subject)
    with torch.no_grad():
        subject.module.fc.bias.fill_(float("nan"))
    with pytest.raises(UsageError, match="no finite loss"):
        score("taylor", subject)
