"""Predictions and accuracy: large batches, no gradients, the same arithmetic as training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ticketguard.data import Dataset
from ticketguard.errors import UsageError
from ticketguard.models import evaluating
from ticketguard.training.batches import Normalizer, pixels_on
from ticketguard.training.devices import resolve_precision

BATCH = 500


def predict(
    module: nn.Module, images: NDArray[np.uint8], dataset: Dataset, *, precision: str = "auto", batch: int = BATCH
) -> NDArray[np.int64]:
    """Labels (N,) int64 that a module gives to uint8 images (N, C, H, W), normalized as `dataset` says.

    Runs on the module's device, in evaluation mode, and leaves each part of it in the mode it was in.
    """
    device = device_of(module)
    pixels = pixels_on(images, device)
    labels = labels_of(module, pixels, Normalizer(dataset.mean, dataset.std, device), precision=precision, batch=batch)
    return labels.cpu().numpy()


def evaluate(
    module: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    dataset: Dataset,
    *,
    precision: str = "auto",
) -> float:
    """Accuracy in percent of a module on labelled uint8 images."""
    return 100.0 * float(np.mean(predict(module, images, dataset, precision=precision) == labels))


@torch.inference_mode()
def require_fit(module: nn.Module, dataset: Dataset) -> None:
    """Raise `UsageError` unless a module takes the images of a data set and answers with a score for each of its classes."""
    device = device_of(module)
    try:
        pixels = pixels_on(dataset.test_images[:1], device)
        with evaluating(module):
            scores = module(Normalizer(dataset.mean, dataset.std, device)(pixels))
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200]
        raise UsageError(
            f"data set {dataset.name}: this network does not take its images of shape {dataset.shape} ({why})"
        ) from error
    if scores.ndim != 2 or scores.shape[1] < len(dataset.classes):
        raise UsageError(
            f"data set {dataset.name}: this network has no score for each of its {len(dataset.classes)} classes"
        )


@torch.inference_mode()
def labels_of(
    module: nn.Module, pixels: Tensor, normalizer: Normalizer, *, precision: str, batch: int = BATCH
) -> Tensor:
    """Labels (N,) on the device for uint8 pixels (N, H, W, C) on the device."""
    device = pixels.device
    dtype = resolve_precision(precision, device)
    found = []
    with evaluating(module), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for start in range(0, len(pixels), batch):
            found.append(module(normalizer(pixels[start : start + batch])).argmax(dim=1))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64, device=device)


def device_of(module: nn.Module) -> torch.device:
    """Device of a module's first parameter; the CPU for a module without parameters."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
