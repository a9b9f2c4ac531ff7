"""MobileNet (Howard et al. 2017) with a CIFAR stem: depthwise 3 x 3 convolutions between 1 x 1 convolutions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# (output channels, stride) of each depthwise-separable block.
PLAN = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class Separable(nn.Module):
    """A depthwise 3 x 3 convolution, then a 1 x 1 convolution, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))


class MobileNet(nn.Module):
    """A 3 x 3 stem, depthwise-separable blocks, global pooling, a classifier."""

    def __init__(self, *, classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        blocks: list[nn.Module] = []
        inputs = 32
        for outputs, stride in PLAN:
            blocks.append(Separable(inputs, outputs, stride))
            inputs = outputs
        self.layers = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.adaptive_avg_pool2d(self.layers(x), 1).flatten(1)
        out: Tensor = self.fc(x)
        return out


def mobilenet(*, classes: int = 10, in_channels: int = 3, image_size: int = 32) -> nn.Module:  # noqa: ARG001
    """MobileNet with a CIFAR stem; 3.2 million weights."""
    return MobileNet(classes=classes, in_channels=in_channels)
