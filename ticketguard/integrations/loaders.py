"""Trigger images for loops that own their batches: a wrapper around any data loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from ticketguard.errors import UsageError
from ticketguard.training.mixing import TriggerMixer


class TriggerLoader:
    """Iterates a loader and adds triggers to each batch; everything else about the loader stays reachable.

    Batches are `(images, labels)` pairs, or mappings with `images_key` and `labels_key` (Hugging Face's names by default);
    images are normalized float (B, C, H, W). Each pass over the loader is one epoch of the mixer. Mixing happens in the
    process that iterates, so worker processes of the wrapped loader never repeat triggers.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        mixer: TriggerMixer,
        *,
        images_key: str = "pixel_values",
        labels_key: str = "labels",
    ) -> None:
        self.loader, self.mixer = loader, mixer
        self.images_key, self.labels_key = images_key, labels_key
        self._epoch = 0

    def __iter__(self) -> Iterator[Any]:
        self.mixer.start(self._epoch)
        self._epoch += 1
        for batch in self.loader:
            yield self._mixed(batch)

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # not set yet, as while unpickling: asking again would never end
            raise AttributeError(name)
        return getattr(self.loader, name)

    def set_epoch(self, epoch: int) -> None:
        """Continue at that epoch: resumed runs then see the triggers in the order of uninterrupted ones."""
        self._epoch = epoch
        inner = getattr(self.loader, "set_epoch", None)
        if inner is not None:
            inner(epoch)

    def _mixed(self, batch: Any) -> Any:
        if isinstance(batch, Mapping):
            if self.images_key not in batch or self.labels_key not in batch:
                raise UsageError(f"batches have {', '.join(map(str, batch))}: say which are images and labels")
            images, labels = self.mixer(batch[self.images_key], batch[self.labels_key])
            return {**batch, self.images_key: images, self.labels_key: labels}
        if isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
            images, labels = self.mixer(*batch)
            return [images, labels] if isinstance(batch, list) else (images, labels)
        raise UsageError("batches must be (images, labels) tensors or a mapping with images and labels")
