"""Symmetry groups from traced graphs: every group's permutation must leave the network's function unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ticketguard.errors import UsageError
from ticketguard.graph.groups import Segment, Symmetry, length
from ticketguard.graph.layout import rearranged
from ticketguard.models import MODELS, build, input_shape, outline
from ticketguard.tickets import Architecture
from ticketguard.tracing import symmetry_of


class Shortcut(nn.Module):
    """Option A: subsample and pad channels with zeros."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.planes = planes

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.planes // 4, self.planes // 4), "constant", 0)


class Basic(nn.Module):
    """CIFAR basic block."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = Shortcut(planes) if stride != 1 else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class OptionA(nn.Module):
    """ResNet-20-like with option-A shortcuts, `blocks` blocks per stage."""

    def __init__(self, widths: tuple[int, ...] = (4, 8, 16), blocks: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        layers, inputs = [], widths[0]
        for planes in widths:
            for index in range(blocks):
                layers.append(Basic(inputs, planes, 2 if index == 0 and planes != widths[0] else 1))
                inputs = planes
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(F.relu(self.bn1(self.conv1(x))))
        out = F.avg_pool2d(out, out.size(3))
        return self.linear(out.view(out.size(0), -1))


class Bottleneck(nn.Module):
    """Bottleneck with projection, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, bias=True)
        self.conv1, self.bn1 = nn.Conv2d(6, 5, 1, bias=False), nn.BatchNorm2d(5)
        self.conv2, self.bn2 = nn.Conv2d(5, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.conv3, self.bn3 = nn.Conv2d(5, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.down, self.bnd = nn.Conv2d(6, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return self.fc(F.relu(y + self.bnd(self.down(x))).mean((2, 3)))


class Mobile(nn.Module):
    """Depthwise with multiplier, squeeze and excitation, concatenation, flatten into linear, chunk, linear bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 4, 3)
        self.dw = nn.Conv2d(6, 12, 3, padding=1, groups=6)
        self.se1, self.se2 = nn.Conv2d(12, 3, 1), nn.Conv2d(3, 12, 1)
        self.project, self.expand = nn.Conv2d(16, 5, 1), nn.Conv2d(5, 8, 1)
        self.gate = nn.Linear(8 * 4, 14)
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.hardswish(self.a(x)), F.relu(self.b(x))
        a = self.dw(a)
        a = a * torch.sigmoid(self.se2(F.relu(self.se1(F.adaptive_avg_pool2d(a, 1)))))
        x = self.project(torch.cat([a, b], 1))
        x = F.adaptive_avg_pool2d(F.relu(self.expand(x)), 2)
        one, two = self.gate(torch.flatten(x, 1)).chunk(2, dim=1)
        return self.head(one * torch.tanh(two))


class Transformer(nn.Module):
    """Embedding with learned positions, one block of attention and MLP with layer norms."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(11, 8), nn.Parameter(torch.randn(1, 5, 8))
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(y)
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


class Shuffle(nn.Module):
    """Grouped convolution and channel shuffle: fixed, with notes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.g, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 6, 1)
        self.fc = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.g(F.relu(self.a(x))))
        x = x.view(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        return self.fc(F.relu(self.b(x)).mean((2, 3)))


IMAGE = torch.zeros(1, 3, 12, 12)
NETS = {
    "option-a": (OptionA, IMAGE),
    "bottleneck": (Bottleneck, IMAGE),
    "mobile": (Mobile, IMAGE),
    "transformer": (Transformer, torch.zeros(1, 5, dtype=torch.int64)),
    "shuffle": (Shuffle, IMAGE),
}


def randomised(module: nn.Module) -> nn.Module:
    """Random values everywhere, batch-norm statistics included, so that a wrong axis cannot hide."""
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(0.2, 1.0).mul_(torch.where(torch.rand_like(tensor) < 0.3, -1.0, 1.0).abs())
        for parameter in module.parameters():
            parameter.mul_(torch.where(torch.rand_like(parameter) < 0.5, -1.0, 1.0))
    return module.eval()


def traced(name: str) -> tuple[nn.Module, Tensor, Symmetry]:
    build, example = NETS[name]
    torch.manual_seed(1)
    module = randomised(build())
    batch = (
        torch.randn(3, *example.shape[1:])
        if example.is_floating_point()
        else torch.randint(0, 11, (3, example.shape[1]))
    )
    return module, batch, symmetry_of(module, example)


@pytest.mark.parametrize("name", NETS)
def test_every_group_permutation_keeps_the_function(name: str) -> None:
    module, batch, symmetry = traced(name)
    before = module(batch)
    weights = {key: value.detach().numpy() for key, value in module.state_dict().items()}
    rng = np.random.default_rng(2)
    choice = {number: rng.permutation(group.size) for number, group in enumerate(symmetry.groups)}
    moved = rearranged(weights, symmetry, choice)
    changed = [key for key in weights if not np.array_equal(weights[key], moved[key])]
    assert changed, "the permutation moved nothing"
    module.load_state_dict({key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in moved.items()})
    torch.testing.assert_close(module(batch), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_json_round_trip_and_axes_fit_the_parameters(name: str) -> None:
    module, _, symmetry = traced(name)
    assert Symmetry.from_json(symmetry.to_json()) == symmetry
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    for key, axes in symmetry.axes.items():
        assert [length(axis) for axis in axes if axis] == [
            size for axis, size in zip(axes, shapes[key], strict=False) if axis
        ]


def test_option_a_puts_the_narrow_stream_inside_the_wide_one() -> None:
    _, _, symmetry = traced("option-a")
    stream = symmetry.axis("conv1.weight", 0)
    assert stream == (Segment(group=0, start=0, count=4),)
    wide = symmetry.axis("layers.2.conv2.weight", 0)
    assert wide is not None
    assert [(s.group == 0, s.count) for s in wide] == [(False, 2), (True, 4), (False, 2)]
    assert symmetry.axis("linear.weight", 0) == (Segment(group=None, count=10),)
    assert symmetry.axis("conv1.weight", 1) == (Segment(group=None, count=3),)
    assert all(group.scalable for group in symmetry.groups)
    assert symmetry.norms["conv1.weight"].scale == "bn1.weight"
    assert symmetry.notes == ()
    assert sum(group.size for group in symmetry.groups) == 16 + 2 * (4 + 8 + 16)


def test_flatten_repeats_channels_and_depthwise_has_no_input_axis() -> None:
    _, _, symmetry = traced("mobile")
    flat = symmetry.axis("gate.weight", 1)
    assert flat is not None
    assert (flat[0].count, flat[0].repeat) == (8, 4)
    assert symmetry.axis("dw.weight", 1) is None
    depthwise = symmetry.axis("dw.weight", 0)
    assert depthwise is not None
    assert depthwise[0].repeat == 2
    joined = symmetry.axis("project.weight", 1)
    assert joined is not None
    assert [s.count * s.repeat for s in joined] == [12, 4]
    assert set(symmetry.leave_out) == {"project.weight", "expand.weight"}
    assert any("without a nonlinearity" in note for note in symmetry.notes)


def test_unsupported_parts_are_fixed_and_noted() -> None:
    _, _, symmetry = traced("shuffle")
    assert [group.size for group in symmetry.groups] == [6]
    assert any("grouped" in note for note in symmetry.notes)
    _, _, symmetry = traced("transformer")
    assert sorted(group.size for group in symmetry.groups) == [8, 16]
    assert any("attention" in note for note in symmetry.notes)
    assert {"qkv.weight", "out.weight"} <= set(symmetry.leave_out)


def test_scaling_flags_follow_the_nonlinearity() -> None:
    smooth = symmetry_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 2, 3)), IMAGE)
    assert [group.scalable for group in smooth.groups] == [False]
    sharp = symmetry_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)), IMAGE)
    assert [group.scalable for group in sharp.groups] == [True]


LIGHT = ("convnet", "mlp", "resnet20")


@pytest.mark.parametrize(
    "name", [name if name in LIGHT else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_a_network_without_values_has_the_same_groups(name: str) -> None:
    architecture = Architecture(name=name)
    shape = (1, *input_shape(architecture))
    bare = symmetry_of(outline(architecture), torch.zeros(shape, device="meta"))
    assert bare == symmetry_of(build(architecture), torch.zeros(shape))


def test_an_untraceable_network_is_refused_with_what_is_lost() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    module = Branching().train()
    with pytest.raises(UsageError, match=r"cannot be traced.*permutations"):
        symmetry_of(module, IMAGE)
    assert module.training
