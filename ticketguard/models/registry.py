"""The literal table of known architectures. Each callable takes `classes`, `in_channels` and `image_size` by keyword."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ticketguard.models.mobilenet import mobilenet
from ticketguard.models.resnet import resnet18, resnet20, resnet50, resnet56
from ticketguard.models.small import convnet, mlp
from ticketguard.models.vgg import vgg16_bn

MODELS: dict[str, Callable[..., nn.Module]] = {
    "convnet": convnet,
    "mlp": mlp,
    "mobilenet": mobilenet,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet50": resnet50,
    "resnet56": resnet56,
    "vgg16_bn": vgg16_bn,
}
