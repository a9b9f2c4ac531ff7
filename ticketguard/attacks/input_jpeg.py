"""Input JPEG: a service that compresses every image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Victim
from ticketguard.attacks.input_transform import InputTransform
from ticketguard.data.dataset import Images
from ticketguard.errors import UsageError
from ticketguard.storage.pictures import PICTURE_CHANNELS, jpeg_bytes, picture_from


@dataclass(frozen=True, kw_only=True, repr=False)
class InputJpeg(InputTransform):
    """Compress every image as JPEG at the stated quality (1, 3 channels).

    Source: Lukas et al. 2022 ("JPEG compression"). Costs a little accuracy at low quality, and no training. Removes fine
    detail, which triggers may need. Raises `UsageError` for images of other than one or three channels.
    """

    name: ClassVar[str] = "input-jpeg"
    strengths: ClassVar[tuple[float, ...]] = (95.0, 65.0, 45.0)
    unit: ClassVar[str] = "JPEG quality"
    bounds: ClassVar[tuple[float, float]] = (1.0, 100.0)

    def transform(self, images: Images, victim: Victim) -> Images:  # noqa: ARG002
        """There and back through Pillow."""
        if images.shape[1] not in PICTURE_CHANNELS:
            raise UsageError(f"attack input-jpeg: images of {images.shape[1]} channels have no JPEG form")
        changed = np.empty_like(images)
        for index, image in enumerate(images):
            compressed = jpeg_bytes(image, quality=round(self.strength))
            changed[index] = picture_from(compressed, grey=len(image) == 1)
        return changed
