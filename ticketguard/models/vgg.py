"""VGG-16 with batch norm in its CIFAR form (Simonyan and Zisserman 2015): thirteen convolutions and one classifier."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# Output channels in order; 0 stands for a 2 x 2 max pooling.
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


class VGG(nn.Module):
    """Plain 3 x 3 convolutions with batch norm, global pooling, one linear classifier."""

    def __init__(self, plan: tuple[int, ...], *, classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = in_channels
        for width in plan:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W), H and W at least 32 -> logits (N, classes)."""
        x = self.features(x)
        out: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


def vgg16_bn(*, classes: int = 10, in_channels: int = 3, image_size: int = 32) -> nn.Module:  # noqa: ARG001
    """VGG-16 with batch norm, 14.7 million weights, for images of 32 x 32 and larger."""
    return VGG(VGG16, classes=classes, in_channels=in_channels)
