"""Residual networks in CIFAR forms (He et al. 2016): ResNet-20/56 with option-A shortcuts, ResNet-18/50 with 3 x 3 stems."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution with padding 1 and no bias (batch norm follows it)."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class PadShortcut(nn.Module):
    """Option-A shortcut: every second pixel, and zero channels added on both sides; it has no weights."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + extra, H / 2, W / 2)."""
        low = self.extra // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, low, self.extra - low))


class PaddedBlock(nn.Module):
    """Two 3 x 3 convolutions around an identity or option-A shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else PadShortcut(outputs - inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions; the shortcut is a 1 x 1 convolution where the shape changes."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, width, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions; the output is four times as wide as the middle."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = projection(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 4 width, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x))


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The shortcut of ResNet-18/50: identity, or a 1 x 1 convolution with batch norm where the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """A 3 x 3 stem, stages of blocks (the first of each later stage halves the image), global pooling, a classifier."""

    def __init__(
        self, block: Callable[[int, int, int], nn.Module], widths: list[int], depths: list[int], expansion: int,
        *, classes: int, in_channels: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv1 = conv3x3(in_channels, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages: list[nn.Module] = []
        inputs = widths[0]
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks: list[nn.Module] = []
            for position in range(depth):
                blocks.append(block(inputs, width, 2 if index > 0 and position == 0 else 1))
                inputs = width * expansion
            stages.append(nn.Sequential(*blocks))
        self.layers = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layers(x)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        out: Tensor = self.fc(x)
        return out


def resnet20(*, classes: int = 10, in_channels: int = 3, image_size: int = 32) -> nn.Module:  # noqa: ARG001
    """ResNet-20 for CIFAR: 16/32/64 channels, three blocks each, option-A shortcuts; 0.27 million weights."""
    return ResNet(PaddedBlock, [16, 32, 64], [3, 3, 3], 1, classes=classes, in_channels=in_channels)


def resnet56(*, classes: int = 10, in_channels: int = 3, image_size: int = 32) -> nn.Module:  # noqa: ARG001
    """ResNet-56 for CIFAR: 16/32/64 channels, nine blocks each, option-A shortcuts; 0.85 million weights."""
    return ResNet(PaddedBlock, [16, 32, 64], [9, 9, 9], 1, classes=classes, in_channels=in_channels)


def resnet18(*, classes: int = 10, in_channels: int = 3, image_size: int = 32) -> nn.Module:  # noqa: ARG001
    """ResNet-18 with a CIFAR stem: 64 to 512 channels, two basic blocks each; 11.2 million weights."""
    return ResNet(BasicBlock, [64, 128, 256, 512], [2, 2, 2, 2], 1, classes=classes, in_channels=in_channels)


def resnet50(*, classes: int = 10, in_channels: int = 3, image_size: int = 32) -> nn.Module:  # noqa: ARG001
    """ResNet-50 with a CIFAR stem: bottlenecks of 64 to 512 channels, depths 3, 4, 6, 3; 23.5 million weights."""
    return ResNet(Bottleneck, [64, 128, 256, 512], [3, 4, 6, 3], 4, classes=classes, in_channels=in_channels)
