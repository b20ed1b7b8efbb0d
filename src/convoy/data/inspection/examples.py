"""Examples of a data set: images before and after augmentation, and pairs of duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.image_size import sides_of
from convoy.data.batches.collate import BatchSpec
from convoy.data.images.resize import Pixels
from convoy.data.inspection.image_facts import prepared
from convoy.data.inspection.inspect_data import Inspection
from convoy.data.inspection.target_counts import COUNTED_KINDS
from convoy.data.located.located_targets import LocatedTargets
from convoy.data.located.placement import Placement
from convoy.data.opening.opened_data import OpenedData
from convoy.data.reading.split_images import SplitImages
from convoy.data.sampling.orders import Places
from convoy.data.sampling.samplers import TrainingSampler, micro_batches_of
from convoy.data.targets import CLASS_INDEX, IMAGE, counted

MOST_ROWS = 20
"""Number of classes that have examples, unless all are asked for."""
_PER_ROW = 8
_MOST_PAIRS = 24
_RANGES = 4
_BATCH = 32


@dataclass(frozen=True)
class Example:
    """Two pictures that are shown together.

    Attributes:
        names: one for each picture.
        pictures: each uint8 [H, W, 1 or 3].
    """

    names: tuple[str, str]
    pictures: tuple[Pixels, Pixels]


@dataclass(frozen=True)
class ExampleRow:
    """Examples under one title.

    Attributes:
        title: name of a class, a label or a range of values.
        note: number of images.
        captions: meaning of the first and of the second picture of each example.
        examples: the examples.
    """

    title: str
    note: str
    captions: tuple[str, str]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class _Chosen:
    """Order of given samples, each with the augmentation that it has in the first epoch of a training."""

    samples: Tensor

    def of_epoch(self, seed: int, epoch: int, num_samples: int, count: int) -> Places:
        """See `SharedOrder`."""
        return Places(self.samples[:count], self.samples[:count])


def example_rows(
    opened: OpenedData, found: Inspection, data: DataConfig, seed: int, *, all_classes: bool
) -> list[ExampleRow]:
    """Return random training images per class, label or range of the first value, and pairs of duplicates.

    Args:
        opened: the data set.
        found: facts about it; only images that could be decoded are shown.
        data: the data config.
        seed: seed of the choice and of the augmentation.
        all_classes: whether all classes are shown, however many there are.
    """
    groups = _groups(found, all_classes)
    generator = torch.Generator().manual_seed(seed)
    chosen = {
        title: samples[torch.randperm(len(samples), generator=generator)[:_PER_ROW]]
        for title, samples in groups.items()
    }
    samples = torch.cat([*chosen.values(), torch.empty(0, dtype=torch.int64)])
    before, after = _before(opened.images["train"], samples, data), augmented(opened, samples, data, seed)
    rows, place = [], 0
    for title, group in chosen.items():
        examples = []
        for sample in group.tolist():
            name = opened.images["train"].name(sample)
            examples.append(Example((name, name), (before[place], after[place])))
            place += 1
        note = counted(len(groups[title]), "training image")
        rows.append(ExampleRow(title, note, ("original", "augmented"), tuple(examples)))
    return rows + _pair_rows(opened, found, data)


def _groups(found: Inspection, all_classes: bool) -> dict[str, Tensor]:
    """Return the decoded training samples by the title of their row."""
    train, names = found.splits["train"], found.targets.names
    if not train.samples:
        return {}
    samples, targets = torch.tensor(train.samples), train.seen_targets
    if found.targets.kind == IMAGE:
        return {"Images": samples}
    if found.targets.kind not in COUNTED_KINDS:
        values, order = targets[:, 0].sort()
        parts = zip(torch.tensor_split(values, _RANGES), torch.tensor_split(order, _RANGES), strict=True)
        return {f"{names[0]} {part[0]:.4g} to {part[-1]:.4g}": samples[places] for part, places in parts if len(part)}
    shown = range(len(names))
    if len(names) > MOST_ROWS and not all_classes:
        shown = np.linspace(0, len(names) - 1, MOST_ROWS).round().astype(int).tolist()
    is_member = targets[:, None] == torch.arange(len(names)) if found.targets.kind == CLASS_INDEX else targets > 0
    return {names[index]: samples[is_member[:, index]] for index in shown}


def _before(images: SplitImages, samples: Tensor, data: DataConfig) -> list[Pixels]:
    """Return images as val shows them."""
    if images.located is not None:
        return [_with_target(images, images.located, sample, data) for sample in samples.tolist()]
    return [
        prepared(opened.image(place), data)
        for batch, opened in images.visit(micro_batches_of(samples, _BATCH))
        for place in range(len(batch.samples))
    ]


def _with_target(images: SplitImages, located: LocatedTargets, sample: int, data: DataConfig) -> Pixels:
    """Return a whole image within data.image_size, with its target."""
    size = sides_of(data.image_size)
    ((_, opened),) = images.visit(micro_batches_of(torch.tensor([sample]), 1))
    picture, slots = opened.image(0), located.slots(1, size)
    pixels = np.empty((*size, data.channels), dtype=np.uint8)
    placement = Placement.fitting(picture.width, picture.height, located.picture_size(size))
    located.write(sample, picture, placement, pixels, slots[0])
    located.complete(pixels, slots[0], None)
    return located.drawn(pixels, located.finished(torch.from_numpy(slots), None, size)[0])


def augmented(opened: OpenedData, samples: Tensor, data: DataConfig, seed: int) -> list[Pixels]:
    """Return training images as the first epoch of a training shows them, without the normalization.

    Args:
        opened: the data set.
        samples: indices of the images, int64.
        data: the data config.
        seed: seed of the training.
    """
    count = len(samples)
    if not count:
        return []
    padded = samples[torch.arange(-(-count // _BATCH) * _BATCH) % count]
    sampler = TrainingSampler(len(padded), seed, _BATCH, shared=_Chosen(padded))
    spec = BatchSpec(torch.device("cpu"), channels_last=False)
    mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (data.mean, data.std))
    pictures: list[Pixels] = []
    located = opened.images["train"].located
    for batch in opened.train.batches(sampler, 0, 0, sampler.steps_per_epoch, spec):
        levels = ((batch.images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        shown = [np.ascontiguousarray(image) for image in levels.permute(0, 2, 3, 1).numpy()]
        if located is not None:
            shown = [located.drawn(image, target) for image, target in zip(shown, batch.targets, strict=True)]
        pictures += shown
    return pictures[:count]


def _pair_rows(opened: OpenedData, found: Inspection, data: DataConfig) -> list[ExampleRow]:
    """Return duplicates side by side, those across splits first."""
    rows = []
    for title, groups in (("Equal pixels", found.duplicates.equal), ("Nearly equal images", found.duplicates.near)):
        pairs = sorted(
            (group[:2] for group in groups), key=lambda pair: _split(found, pair[0]) == _split(found, pair[1])
        )
        examples = []
        for pair in pairs[:_MOST_PAIRS]:
            places = [found.images[image] for image in pair]
            pictures = [_before(opened.images[split], torch.tensor([sample]), data)[0] for split, sample in places]
            names = [f"{split}: {found.name(image)}" for image, (split, _) in zip(pair, places, strict=True)]
            examples.append(Example((names[0], names[1]), (pictures[0], pictures[1])))
        if examples:
            note = counted(len(groups), "pair" if title.startswith("Nearly") else "group")
            rows.append(ExampleRow(title, note, ("one image", "the other"), tuple(examples)))
    return rows


def _split(found: Inspection, image: int) -> str:
    return found.images[image][0]
