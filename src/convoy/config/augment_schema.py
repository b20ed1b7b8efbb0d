"""Typed config of the augmentation: `data.augment`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class AugmentConfig:
    """Augmentation of training images. Zero, false or null switches a transform off."""

    pad_crop: int = 0
    """Zero padding per side in pixels, followed by a random crop of the image's size."""
    flip: bool = False
    """Flip left to right with probability 1/2."""
    cutout: int = 0
    """Side in pixels of a square at a random position that is set to the mean (DeVries & Taylor 2017)."""
    random_resized_crop: list[float] | None = None
    """[smallest, largest] share of the image's area in a random crop with aspect ratio 3/4 to 4/3, times that of
    image_size, which is resized (Szegedy et al. 2014). Not for sets in memory."""
    scale_jitter: list[int] | None = None
    """[smallest, largest] shorter side in pixels to which an image is resized before a random crop of image_size
    (VGG: [256,512]). For an image_size of [height,width], like data.eval_resize. Not for sets in memory."""
    random_crop: bool = False
    """Crop of data.image_size at a random position, without a change of scale; smaller images are enlarged. Not for
    sets in memory."""
    rand_augment: list[int] | None = None
    """RandAugment: [number of operations, magnitude 0 to 30], usually [2,9]. At most one of rand_augment,
    trivial_augment, auto_augment and augmix."""
    trivial_augment: bool = False
    """TrivialAugment (wide): one operation of random strength."""
    auto_augment: str | None = None
    """AutoAugment with the policy of a data set: imagenet, cifar10 or svhn."""
    augmix: int = 0
    """AugMix: severity 1 to 10, usually 3; 0: off."""
    three_augment: bool = False
    """Grayscale, solarization or blur (DeiT III); usually with color_jitter=[0.3,0.3,0.3,0]."""
    rotation: float = 0.0
    """Largest angle in degrees, in both directions."""
    affine: list[float] | None = None
    """[angle in degrees, shift as a share of the side, change of scale, shear in degrees], the largest of each in both
    directions, about the center."""
    perspective: float = 0.0
    """Distortion 0 to 1 of a change of perspective, with probability 1/2; usually 0.5."""
    color_jitter: list[float] | None = None
    """[brightness, contrast, saturation, hue]: largest change of each factor, and of the hue as a share of a turn
    (0 to 0.5), in random order."""
    grayscale: float = 0.0
    """Probability of a gray image."""
    blur: float = 0.0
    """Probability of a Gaussian blur with a standard deviation of 0.1 to 2 pixels."""
    pca_lighting: float = 0.0
    """Standard deviation of AlexNet's change of color along the principal components of RGB values; usually 0.1."""
    erasing: float = 0.0
    """Probability of a random rectangle that is set to the mean (Zhong et al. 2017)."""

    @property
    def has_operations(self) -> bool:
        """Whether any operation on the pixels of whole batches is on, other than crops, flips and erasing."""
        settings = (
            *(self.rand_augment, self.trivial_augment, self.auto_augment, self.augmix, self.three_augment),
            *(self.rotation, self.affine, self.perspective, self.color_jitter),
            *(self.grayscale, self.blur, self.pca_lighting),
        )
        return any(settings)
