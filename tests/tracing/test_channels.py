"""Tracing modules into channel graphs: sums, concatenations, padding, groups and flattening are what they are."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ticketguard.errors import UsageError
from ticketguard.graph.scores import edge_products
from ticketguard.models import MODELS
from ticketguard.tracing.channels import channel_graph


class Mixed(nn.Module):
    """Every supported kind of joint, positive weights, no bias: so SynFlow's gradient is the exact path sum."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 3, 1, bias=False)
        self.b = nn.Conv2d(3, 3, 1, bias=False)
        self.c = nn.Conv2d(6, 4, 1, bias=False)
        self.d = nn.Conv2d(4, 4, 1, groups=2, bias=False)
        self.fc = nn.Linear(6 * 4, 3, bias=False)

    def forward(self, x):
        x = F.relu(self.a(x))
        y = self.b(x)
        z = torch.cat([x + y, F.pad(y[:, 1:], (0, 0, 0, 0, 0, 1))], 1)
        z = self.d(F.relu(self.c(z)))
        first, second = z.chunk(2, dim=1)
        z = F.pad(first + second, (0, 0, 0, 0, 2, 2))
        return self.fc(torch.flatten(z, 1))


def test_path_products_equal_the_gradient_identity():
    torch.manual_seed(0)
    module = Mixed().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_()
            parameter *= torch.rand_like(parameter) > 0.3
    example = torch.ones(1, 2, 2, 2, dtype=torch.float64)
    graph = channel_graph(module, example)
    module(example).sum().backward()
    kernels = graph.to_kernels(np.exp(edge_products(graph)))
    for name, parameter in module.named_parameters():
        expected = (parameter * parameter.grad).detach().numpy().reshape(len(parameter), -1)
        if name == "fc.weight":
            expected = expected.reshape(len(parameter), -1, 4).sum(axis=2)
        assert np.allclose(kernels[name], expected), name


HEAVY = ("mobilenet", "resnet50", "resnet56", "vgg16_bn")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in MODELS if name != "mlp"]
)
def test_every_registered_network_traces_and_inputs_reach_outputs(name):
    torch.manual_seed(0)
    module = MODELS[name]()
    channels = 1 if name == "convnet" else 3
    size = 8 if name == "convnet" else 32
    graph = channel_graph(module, torch.zeros(1, channels, size, size))
    names = {key for key, value in module.named_parameters() if value.dim() >= 2}
    assert set(graph.shapes) == names
    assert len(graph.inputs) == channels
    assert len(graph.outputs) == 10
    assert np.isfinite(edge_products(graph)).mean() > 0.99


def test_the_mlp_has_one_input_node_per_channel():
    torch.manual_seed(0)
    graph = channel_graph(MODELS["mlp"](), torch.zeros(1, 1, 8, 8))
    assert graph.blocks[0].span == 64
    assert graph.to_kernels(graph.weights)["fc1.weight"].shape == (256, 1)


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(("module", "said"), [(Transposed(), "transpose"), (Branching(), "cannot be traced")])
def test_what_is_not_understood_is_refused(module, said):
    with pytest.raises(UsageError, match=said):
        channel_graph(module, torch.zeros(1, 2, 3))


def test_every_part_of_the_module_is_left_in_its_mode():
    module = MODELS["convnet"]()
    module.bn1.eval()
    channel_graph(module, torch.zeros(1, 1, 8, 8))
    assert module.training
    assert not module.bn1.training
