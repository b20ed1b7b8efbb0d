"""Typed config of the degradation of images that a network restores: `data.degradation`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class DegradationConfig:
    """Steps from an image to the network's input, in this order. The network learns to return the image."""

    blur: float = 0.0
    """Standard deviation in pixels of a Gaussian blur; 0: off."""
    scale: int = 1
    """Factor by which the image is reduced, by MATLAB's bicubic filter. With a data set that returns both images, the
    size of the second divided by that of the first."""
    enlarge: bool = False
    """Whether the reduced image is enlarged to its former size by the same filter, for networks that keep the size."""
    gray: bool = False
    """Whether colors are removed: the network learns to colorize."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise in gray levels of 255, such as 25; 0: off."""
    jpeg: int | None = None
    """Quality of a JPEG compression, 1 to 95; null: off."""

    @property
    def output_scale(self) -> int:
        """Size of the network's output divided by that of its input."""
        return 1 if self.enlarge else self.scale
