"""Input noise, blur and depth: a service that lets its network see less of every pixel than it was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ticketguard.attacks.base import Victim
from ticketguard.attacks.input_transform import InputTransform, to_pixels
from ticketguard.data.dataset import Images


@dataclass(frozen=True, kw_only=True, repr=False)
class InputNoise(InputTransform):
    """Add normal noise to every pixel, its spread a share of the full range.

    Source: Lukas et al. 2022 ("input noising"). Costs accuracy, and no training. Breaks triggers that hang on exact pixel
    values. The noise hangs on the seed and the shape of a query alone, so asking again averages nothing away.
    """

    name: ClassVar[str] = "input-noise"
    strengths: ClassVar[tuple[float, ...]] = (0.02, 0.05, 0.1)
    unit: ClassVar[str] = "noise spread, pixels in [0, 1]"

    def transform(self, images: Images, victim: Victim) -> Images:
        """The same noise for the same images and seed."""
        noise = victim.generator(self.name).normal(0.0, 255 * self.strength, images.shape)
        return to_pixels(images + noise)


@dataclass(frozen=True, kw_only=True, repr=False)
class InputBlur(InputTransform):
    """Gaussian blur with the stated standard deviation in pixels.

    Source: Lukas et al. 2022 ("input smoothing"). Costs accuracy, much of it on small images. Breaks triggers that hang
    on fine detail.
    """

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
    """Keep the stated number of bits per pixel and channel.

    Source: feature squeezing (Xu et al. 2018), as a removal attack in Lukas et al. 2022. Costs accuracy at few bits, and no
    training. Breaks triggers that hang on small differences between pixels.
    """

    name: ClassVar[str] = "input-depth"
    strengths: ClassVar[tuple[float, ...]] = (5.0, 3.0, 2.0)
    unit: ClassVar[str] = "bits per pixel"
    bounds: ClassVar[tuple[float, float]] = (1.0, 8.0)

    def transform(self, images: Images, victim: Victim) -> Images:  # noqa: ARG002
        """Round to that many levels between 0 and 255."""
        levels = 2 ** round(self.strength) - 1
        return to_pixels(np.rint(images / 255 * levels) * (255 / levels))
