"""Map-style data sets of the user, named by `_target_` in `data.train`, `data.val` and `data.test`.

`dataset[index]` returns an image and its target. The image is a PIL image, a uint8 tensor [C, H, W] or [H, W], or a
uint8 array [H, W, C] or [H, W]. `item_forms` has the forms of targets with positions in the image. Decoding threads
call it, several at a time, and then resize, crop and normalize the image like those of folders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.config.targets import build
from convoy.data.datasets.item_forms import described, mask_of, pixels_of, points_of
from convoy.data.datasets.user_code import user_code
from convoy.data.degradation.restoration_folders import CHANNEL_NAMES
from convoy.data.images.bad_images import BadImageError
from convoy.data.images.decode import LazyImage, image_of_pixels
from convoy.data.images.pixel_depth import RangeError
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.located.class_table import mask_classes
from convoy.data.located.located_targets import LocatedTargets
from convoy.data.located.open_targets import mask_reader, open_item_targets
from convoy.data.reading.split_images import OpenBatch
from convoy.data.sampling.randomness import SampleRandomness, Stream, random_bits
from convoy.data.sampling.samplers import MicroBatch, micro_batches_of
from convoy.data.targets import CLASS_INDEX, IMAGE, KEYPOINTS, LOCATED_KINDS, MASK, MULTI_HOT, Targets, positions_of


def build_dataset(data: DataConfig, split: str) -> Any:
    """Build the data set of a split from `data.<split>`, or None if it is null.

    Raises:
        UserError: if it can't be built or is not a map-style data set.
    """
    key, node = f"data.{split}", getattr(data, split)
    if node is None:
        return None
    with user_code(key, str(node.get("_target_"))):
        dataset = build(key, node)
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        rule = f"builds {type(dataset).__name__}, which is not a map-style data set"
        raise UserError(Fault(key, rule, "add __len__ and __getitem__, as in torch.utils.data.Dataset"))
    return dataset


def dataset_targets(data: DataConfig, dataset: Any) -> Targets:
    """Return kind and names of a data set's targets: `data.classes` of masks, its attribute `classes`, or numbers.

    Raises:
        UserError: if the length of `classes` is not `data.num_classes`.
    """
    assert data.num_classes is not None, "check_data requires it"
    if data.target == IMAGE:
        return Targets(IMAGE, CHANNEL_NAMES[data.num_classes])
    if data.target == MASK and data.classes is not None:
        return Targets(MASK, mask_classes(data).names)
    names = getattr(dataset, "classes", None)
    if not isinstance(names, Sequence) or isinstance(names, str):
        return Targets(data.target, tuple(str(index) for index in range(data.num_classes)))
    if len(names) != data.num_classes:
        rule = f"{type(dataset).__name__}.classes has {len(names)} names"
        remedy = f"write data.num_classes={len(names)}"
        if data.target == MASK:
            remedy += ", or data.classes=[…] if these are not the classes of the masks"
        raise UserError(Fault("data.num_classes", rule, remedy, str(data.num_classes)))
    return Targets(data.target, tuple(map(str, names)))


def class_positions(data: DataConfig, dataset: Any, split: str, trained: Targets) -> tuple[int, ...] | None:
    """Return the index that each class of val or test has among those of train, or None if it has no names.

    Raises:
        UserError: it has a class that train lacks.
    """
    names = getattr(dataset, "classes", None)
    if data.target != CLASS_INDEX or not isinstance(names, Sequence) or isinstance(names, str):
        return None
    found = Targets(data.target, tuple(map(str, names)))
    return positions_of(found, trained, f"data.{split}", type(dataset).__name__)


class DatasetImages:
    """Images and targets of a split, read from a data set of the user."""

    def __init__(
        self,
        dataset: Any,
        data: DataConfig,
        key: str,
        *,
        seed: int,
        samples: Tensor | None = None,
        positions: Sequence[int] | None = None,
    ) -> None:
        """Store the data set and its samples.

        Args:
            dataset: map-style data set.
            data: the data config.
            key: setting that names the data set, for errors.
            seed: seed of torch's random functions in `__getitem__`.
            samples: indices of the images that belong to the split, int64; None for all.
            positions: index of each class of the data set among the classes of train; None if they are equal.
        """
        self._dataset = dataset
        self._data = data
        self._key = key
        self._format = PixelFormat.of(data)
        self._seed = seed
        self._samples = torch.arange(len(dataset)) if samples is None else samples
        self._positions = None if positions is None else torch.tensor(positions)
        self._read_mask = mask_reader(data) if data.target == MASK else None
        self.located: LocatedTargets | None = None
        if data.target in LOCATED_KINDS:
            self.located = open_item_targets(self, dataset_targets(data, dataset), data, key)

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def targets(self) -> Tensor | None:
        """Classes of all images, int64, if the data set has them in an attribute `targets`, as torchvision's have."""
        targets = getattr(self._dataset, "targets", None)
        if self._data.target != CLASS_INDEX or targets is None or len(targets) != len(self._dataset):
            return None
        classes = torch.as_tensor(targets, dtype=torch.int64)[self._samples]
        return classes if self._positions is None else self._positions[classes]

    def name(self, sample: int) -> str:
        """See `SplitImages`."""
        return self._item_name(int(self._samples[sample]))

    def item(self, sample: int) -> LazyImage:
        """Open an image with its target.

        Raises:
            BadImageError: if the file of the image can't be read.
            UserError: if `__getitem__` fails or returns another type.
        """
        ((_, opened),) = self.visit(micro_batches_of(torch.tensor([sample]), 1))
        return opened.image(0)

    def _item_name(self, index: int) -> str:
        return f"{type(self._dataset).__name__}[{index}]"

    def visit(self, batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, OpenBatch]]:
        """See `SplitImages`."""
        for batch in batches:
            indices = self._samples[batch.samples]
            keys = indices if torch.equal(batch.keys, batch.samples) else batch.keys
            seeds = random_bits(self._seed, batch.epoch, keys, [Stream.DATASET])[0].tolist()
            yield batch, _DatasetBatch(self.read, indices.tolist(), seeds)

    def read(self, index: int) -> LazyImage:
        """Return the image at an index of the data set, with its target.

        Raises:
            BadImageError: if the file of the image can't be read.
            UserError: if `__getitem__` fails or returns another type.
        """
        name = self._item_name(index)
        with user_code(self._key, name):
            try:
                item = self._dataset[index]
            except OSError as error:
                raise BadImageError(name, str(error) or type(error).__name__) from error
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise self._fault(name, f"returns {described(item)}", "return an image and its target")
        try:
            pixels = pixels_of(item[0], self._format)
            target = (self._target if self.located is None else self._located_target)(name, item[1])
        except RangeError as error:
            raise BadImageError(name, str(error)) from error
        if pixels is None:
            rule = f"returns an image that is {described(item[0])}"
            remedy = "return a PIL image, a uint8 tensor [C, H, W] or a uint8 array [H, W, C] with 1 or 3 channels"
            if not self._format.is_picture:
                channels = self._format.channels
                remedy = f"return a uint8 tensor [{channels}, H, W] or a uint8 array [H, W, {channels}] (data.channels)"
            raise self._fault(name, rule, remedy)
        mode = item[0].mode if isinstance(item[0], Image.Image) else None
        return replace(image_of_pixels(pixels, self._data.channels, mode), target=target)

    def _located_target(self, name: str, target: Any) -> Any:
        """Return a mask, key points or an image in the form that `open_item_targets` expects."""
        number = self._data.num_classes
        assert number is not None, "check_data requires it"
        found: Any
        if self._read_mask is not None:
            found = mask_of(target, self._read_mask, f"the mask of {name}")
            wanted = "a PIL image, or a tensor or an array of whole numbers [H, W]"
        elif self._data.target == KEYPOINTS:
            found = points_of(target, number)
            wanted = f"x and y of each point, [{number}, 2], or [{number}, 3] with 0 for unknown ones"
            wanted += f" (data.num_classes={number})"
        else:
            pixels = pixels_of(target, replace(self._format, channels=number))
            found = None if pixels is None else image_of_pixels(pixels, number)
            wanted = "a PIL image, a uint8 tensor [C, H, W] or a uint8 array [H, W, C] with 1 or 3 channels"
        if found is None:
            raise self._fault(name, f"returns a target that is {described(target)}", f"return {wanted}")
        return found

    def _target(self, name: str, target: Any) -> Tensor:
        number = self._data.num_classes if self._positions is None else len(self._positions)
        assert number is not None, "check_data requires it"
        kind = self._data.target
        try:
            value = torch.as_tensor(target)
        except (TypeError, ValueError, RuntimeError):
            value = torch.empty(0)
        if kind == CLASS_INDEX:
            is_whole = value.numel() == 1 and not value.is_floating_point()
            if not is_whole or not 0 <= int(value) < number:
                rule = f"returns the target {target!r}"
                source = f"data.num_classes={number}" if self._positions is None else "its classes"
                raise self._fault(name, rule, f"return an integer from 0 to {number - 1} ({source})")
            index = value.reshape(()).to(torch.int64)
            return index if self._positions is None else self._positions[index]
        value = value.reshape(-1).to(torch.float32)
        is_right = len(value) == number and all(map(math.isfinite, value.tolist()))
        if not is_right or (kind == MULTI_HOT and not bool(((value == 0) | (value == 1)).all())):
            wanted = "numbers, each 0 or 1" if kind == MULTI_HOT else "finite numbers"
            rule = f"returns the target {target!r}"
            raise self._fault(name, rule, f"return {number} {wanted} (data.num_classes={number}, data.target={kind})")
        return value

    def _fault(self, name: str, rule: str, remedy: str) -> UserError:
        return UserError(Fault(self._key, f"{name} {rule}", remedy))


class _DatasetBatch:
    """See `OpenBatch`. Targets are kept as the images are read."""

    def __init__(self, read: Callable[[int], LazyImage], indices: Sequence[int], seeds: Sequence[int]) -> None:
        self._read = read
        self._indices = indices
        self._seeds = seeds
        self._targets: dict[int, Tensor] = {}

    def image(self, place: int) -> LazyImage:
        with SampleRandomness(self._seeds[place]):
            picture = self._read(self._indices[place])
        self._targets[place] = picture.target
        return picture

    def targets(self, places: Tensor) -> Tensor:
        return torch.stack([self._targets[place] for place in places.tolist()])
