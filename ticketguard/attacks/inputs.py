"""Input transforms: a service that changes every image before its network sees it. Nobody sees the weights."""

from __future__ import annotations

import io
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ticketguard.attacks.base import Attack, Attacked, Images, Labels, Predict, Victim
from ticketguard.errors import UsageError


@dataclass(frozen=True, kw_only=True, repr=False)
class InputTransform(Attack):
    """A service that answers for `transform(images)` instead of the images it was sent."""

    def run(self, victim: Victim) -> Attacked:
        """The victim itself, behind the transform."""

        def front(predict: Predict, images: Images) -> Labels:
            return predict(self.transform(images, victim))

        return Attacked(weights=victim.model.weights, architecture=victim.model.architecture, front=front, hidden=True)

    @abstractmethod
    def transform(self, images: Images, victim: Victim) -> Images:
        """uint8 images (N, C, H, W) in, the same out."""


@dataclass(frozen=True, kw_only=True, repr=False)
class InputFlip(InputTransform):
    """Mirror every image. Costs accuracy where left and right differ (digits); free on photographs."""

    name: ClassVar[str] = "input-flip"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (1.0, 1.0)

    def transform(self, images: Images, victim: Victim) -> Images:  # noqa: ARG002
        """Left becomes right."""
        return np.ascontiguousarray(images[:, :, :, ::-1])


@dataclass(frozen=True, kw_only=True, repr=False)
class InputJpeg(InputTransform):
    """Compress every image as JPEG at the stated quality (1, 3 channels). Removes fine detail, which triggers may need."""

    name: ClassVar[str] = "input-jpeg"
    strengths: ClassVar[tuple[float, ...]] = (95.0, 65.0, 45.0)
    unit: ClassVar[str] = "JPEG quality"
    bounds: ClassVar[tuple[float, float]] = (1.0, 100.0)

    def transform(self, images: Images, victim: Victim) -> Images:  # noqa: ARG002
        """There and back through Pillow."""
        try:
            from PIL import Image  # an optional helper: only this attack needs it
        except ImportError as problem:
            raise UsageError("attack input-jpeg needs Pillow: pip install pillow") from problem
        if images.shape[1] not in (1, 3):
            raise UsageError(f"attack input-jpeg: images of {images.shape[1]} channels have no JPEG form")
        changed = np.empty_like(images)
        for index, image in enumerate(images):
            pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            buffer = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=round(self.strength))
            decoded = np.asarray(Image.open(buffer))
            changed[index] = decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1)
        return changed


@dataclass(frozen=True, kw_only=True, repr=False)
class InputNoise(InputTransform):
    """Add normal noise to every pixel, its spread a share of the full range."""

    name: ClassVar[str] = "input-noise"
    strengths: ClassVar[tuple[float, ...]] = (0.02, 0.05, 0.1)
    unit: ClassVar[str] = "noise spread, pixels in [0, 1]"

    def transform(self, images: Images, victim: Victim) -> Images:
        """The same noise for the same images and seed."""
        noise = victim.generator(self.name).normal(0.0, 255 * self.strength, images.shape)
        return to_pixels(images + noise)


@dataclass(frozen=True, kw_only=True, repr=False)
class InputBlur(InputTransform):
    """Gaussian blur with the stated standard deviation in pixels."""

    name: ClassVar[str] = "input-blur"
    strengths: ClassVar[tuple[float, ...]] = (0.5, 1.0)
    unit: ClassVar[str] = "blur, pixels"
    bounds: ClassVar[tuple[float, float]] = (0.0, 32.0)

    def transform(self, images: Images, victim: Victim) -> Images:  # noqa: ARG002
        """Blur rows and columns, edges repeated."""
        from scipy.ndimage import gaussian_filter  # loads slowly, and only this attack needs it

        blurred = gaussian_filter(images.astype(np.float64), sigma=(0, 0, self.strength, self.strength), mode="nearest")
        return to_pixels(blurred)


@dataclass(frozen=True, kw_only=True, repr=False)
class InputDepth(InputTransform):
    """Keep the stated number of bits per pixel and channel (feature squeezing, Xu et al. 2018)."""

    name: ClassVar[str] = "input-depth"
    strengths: ClassVar[tuple[float, ...]] = (5.0, 3.0, 2.0)
    unit: ClassVar[str] = "bits per pixel"
    bounds: ClassVar[tuple[float, float]] = (1.0, 8.0)

    def transform(self, images: Images, victim: Victim) -> Images:  # noqa: ARG002
        """Round to that many levels between 0 and 255."""
        levels = 2 ** round(self.strength) - 1
        return to_pixels(np.rint(images / 255 * levels) * (255 / levels))


def to_pixels(values: NDArray[np.float64]) -> Images:
    """Rounded to whole grey levels within 0 to 255."""
    pixels: Images = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels
