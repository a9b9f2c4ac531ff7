"""Two networks small enough for handwritten digits on a laptop: a convolutional one and a multilayer perceptron."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Three 3 x 3 convolutions of 32, 64 and 128 channels with batch norm, one pooling, global pooling, a classifier."""

    def __init__(self, *, classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(128)
        self.fc = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.max_pool2d(x, 2)
        x = F.relu(self.bn3(self.conv3(x)))
        out: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


class MLP(nn.Module):
    """Flattened pixels, two hidden layers of `width` units with ReLU, a classifier; no batch norm."""

    def __init__(self, *, classes: int, in_channels: int, image_size: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels * image_size * image_size, width)
        self.fc2 = nn.Linear(width, width)
        self.fc3 = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, image_size, image_size) -> logits (N, classes)."""
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        out: Tensor = self.fc3(x)
        return out


def convnet(*, classes: int = 10, in_channels: int = 1, image_size: int = 8) -> nn.Module:  # noqa: ARG001
    """A small convolutional network for digits: 92,160 prunable weights in its two later convolutions."""
    return ConvNet(classes=classes, in_channels=in_channels)


def mlp(*, classes: int = 10, in_channels: int = 1, image_size: int = 8, width: int = 256) -> nn.Module:
    """A multilayer perceptron with two hidden layers of `width` units: width x width prunable weights."""
    return MLP(classes=classes, in_channels=in_channels, image_size=image_size, width=width)
