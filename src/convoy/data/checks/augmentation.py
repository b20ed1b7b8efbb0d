"""Checks of `data.augment`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, did_you_mean, fault_of
from convoy.config.image_size import sides_or_none
from convoy.data.images.pixel_format import PICTURE_CHANNELS
from convoy.data.source_names import NUM_CLASSES
from convoy.data.targets import IMAGE, LOCATED_KINDS

COLOR_OPERATIONS = (
    *("rand_augment", "trivial_augment", "auto_augment", "augmix", "three_augment"),
    *("color_jitter", "grayscale", "pca_lighting"),
)
"""Transforms that need gray or RGB images."""
BEFORE_DEGRADATION = ("flip", "random_crop", "random_resized_crop", "scale_jitter")
"""Transforms of images that are then degraded."""
POLICIES = ("rand_augment", "trivial_augment", "auto_augment", "augmix")
AUTO_AUGMENT_POLICIES = ("imagenet", "cifar10", "svhn")
SMALLEST_BLURRED = 7
"""Side of the smallest image that the blur's kernel, which is mirrored at the border, fits into."""

# Largest value of each; the smallest is 0.
_UP_TO: dict[str, float] = {
    "augmix": 10,
    "rotation": 180,
    "perspective": 1,
    "grayscale": 1,
    "blur": 1,
    "pca_lighting": 10,
    "erasing": 1,
}
# Largest value of each number of a list, and the usual list.
_LISTS: dict[str, tuple[dict[str, float], str]] = {
    "rand_augment": ({"number of operations": 10, "magnitude": 30}, "[2,9]"),
    "affine": ({"angle": 180, "shift": 1, "change of scale": 0.99, "shear": 89}, "[15,0.1,0.1,10]"),
    "color_jitter": ({"brightness": 10, "contrast": 10, "saturation": 10, "hue": 0.5}, "[0.4,0.4,0.4,0.1]"),
}


def augment_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield the faults of the augmentation, each by itself and in combination."""
    yield from _numbers(data)
    yield from _lists(data)
    yield from _crops(data)
    augment = data.augment
    policies = [name for name in POLICIES if getattr(augment, name)]
    if len(policies) > 1:
        rule = f"can't be combined with data.augment.{policies[0]}"
        yield _fault(policies[1], getattr(augment, policies[1]), rule, "set one of them")
    policy = augment.auto_augment
    if policy is not None and policy not in AUTO_AUGMENT_POLICIES:
        rule = f"must be {', '.join(AUTO_AUGMENT_POLICIES[:-1])} or {AUTO_AUGMENT_POLICIES[-1]}"
        yield _fault("auto_augment", policy, rule, did_you_mean(policy, AUTO_AUGMENT_POLICIES))
    for name in COLOR_OPERATIONS:
        value = getattr(augment, name)
        if value and data.channels not in PICTURE_CHANNELS:
            rule = f"changes colors of gray or RGB images, and data.channels is {data.channels}"
            off = "false" if value is True else "0" if isinstance(value, int | float) else "null"
            yield _fault(name, value, rule, f"write data.augment.{name}={off}")
    if augment.pca_lighting and data.channels == 1:
        yield _fault("pca_lighting", augment.pca_lighting, "needs data.channels=3", "write 0")
    for name in ("blur", "three_augment"):
        value, sides = getattr(augment, name), sides_or_none(data.image_size)
        if value and sides and sides.shorter < SMALLEST_BLURRED:
            yield _fault(name, value, f"needs data.image_size={SMALLEST_BLURRED} or more", "set a larger size")


def _numbers(data: DataConfig) -> Iterator[Fault]:
    sides = sides_or_none(data.image_size)
    for name in ("pad_crop", "cutout"):
        value = getattr(data.augment, name)
        if value < 0:
            yield _fault(name, value, "must be at least 0", "0 turns it off")
        elif sides and value >= sides.shorter:
            yield _fault(name, value, f"must be less than data.image_size={sides.text}")
    for name, most in _UP_TO.items():
        value = getattr(data.augment, name)
        if not 0 <= value <= most:
            yield _fault(name, value, f"must be 0 to {most:g}", "0 turns it off")


def _lists(data: DataConfig) -> Iterator[Fault]:
    for name, (limits, usual) in _LISTS.items():
        values = getattr(data.augment, name)
        if values is None:
            continue
        if len(values) != len(limits):
            yield _fault(name, values, f"must be [{', '.join(limits)}]", f"{usual} is usual")
            continue
        for value, (what, most) in zip(values, limits.items(), strict=True):
            if not 0 <= value <= most:
                yield _fault(name, values, f"{what} must be 0 to {most:g}", f"{usual} is usual")


def _crops(data: DataConfig) -> Iterator[Fault]:
    augment = data.augment
    crop, sides = augment.random_resized_crop, augment.scale_jitter
    if crop is not None and (len(crop) != 2 or not 0 < crop[0] <= crop[1] <= 1):
        rule = "must be [smallest, largest] with 0 < smallest <= largest <= 1"
        yield _fault("random_resized_crop", crop, rule, "[0.08,1.0] is usual")
    image = sides_or_none(data.image_size)
    size = image.shorter if image else 1
    if sides is not None and (len(sides) != 2 or not size <= sides[0] <= sides[1]):
        least = f"data.image_size={size}" if image and isinstance(image.value, int) else size
        rule = f"must be [smallest, largest] with {least} <= smallest <= largest"
        yield _fault("scale_jitter", sides, rule, f"[{round(size * 8 / 7)},{round(size * 16 / 7)}] is usual")
    crops = (("random_resized_crop", crop), ("scale_jitter", sides), ("random_crop", augment.random_crop))
    given = [(name, value) for name, value in crops if value]
    for name, value in given:
        if data.source in NUM_CLASSES:
            rule = f"applies only to images that are read from files, not to data.source={data.source}"
            yield _fault(name, value, rule, "use data.augment.pad_crop")
    if given and augment.pad_crop > 0:
        yield _fault("pad_crop", augment.pad_crop, f"can't be combined with {given[0][0]}", "set one of them")
    if len(given) > 1:
        name, value = given[1]
        yield _fault(name, value, f"can't be combined with {given[0][0]}", "set one of them")
    if data.target == IMAGE:
        for name in sorted(vars(augment)):
            if (value := getattr(augment, name)) and name not in BEFORE_DEGRADATION:
                rule = "changes the network's input only, and not the image that it should return"
                remedy = "switch it off; data.transforms are applied before the degradation"
                yield _fault(name, value, rule, remedy)
    elif data.target in LOCATED_KINDS:
        for name in ("pad_crop", "augmix"):
            if value := getattr(augment, name):
                rule = f"does not move targets of the kind {data.target} with the pixels"
                yield _fault(name, value, rule, "write 0; random_crop and scale_jitter move both")


def _fault(name: str, value: Any, rule: str, remedy: str = "") -> Fault:
    return fault_of(f"data.augment.{name}", value, rule, remedy)
