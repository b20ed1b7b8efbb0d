"""Splits whose images are read while training runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from convoy.config.data_schema import DataConfig
from convoy.config.image_size import sides_of
from convoy.data.batches.image_loader import StreamedEvaluation, StreamedTraining
from convoy.data.batches.whole_images import WholeEvaluation
from convoy.data.images.bad_images import BadImages
from convoy.data.opening.opened_data import SPLITS, OpenedData
from convoy.data.reading.split_images import SplitImages
from convoy.data.sampling.orders import shared_order
from convoy.data.sampling.samplers import Order
from convoy.data.source_names import DATASET_SOURCE, WHOLE_VIEW
from convoy.data.targets import Targets

MOST_EVAL_RESIZE = 1.5
"""Ratio of data.eval_resize to data.image_size from which a note is printed; 256 / 224 is usual."""


def streamed_data(
    data: DataConfig,
    seed: int,
    targets: Targets,
    images: Mapping[str, SplitImages],
    notes: Sequence[str],
    order: Order | None = None,
) -> OpenedData:
    """Return splits as a data set that is ready to be read.

    Args:
        data: the data config, checked.
        seed: seed of the augmentation.
        targets: kind and names of the targets.
        images: train, and val and test if there are such splits.
        notes: facts that a user may not expect, one sentence each.
        order: order of the training images, if the source determines it.
    """
    size = sides_of(data.image_size)
    if data.eval_resize is not None and data.eval_resize > MOST_EVAL_RESIZE * size.shorter:
        notes = [
            *notes,
            f"val and test see the central {size} of {data.eval_resize} pixels only; data.eval_resize=null shows"
            " the whole image.",
        ]
    key = "data.train" if data.source == DATASET_SOURCE else "data.root"
    bad_images = BadImages(skip=data.on_bad_image == "skip", key=key)
    evaluation = WholeEvaluation if data.eval_view == WHOLE_VIEW else StreamedEvaluation
    return OpenedData(
        targets=targets,
        training_targets=images["train"].targets,
        train=StreamedTraining(images["train"], data, seed, bad_images),
        evaluation={name: evaluation(split, data, bad_images) for name, split in images.items()},
        images=images,
        sizes={name: len(images[name]) if name in images else 0 for name in SPLITS},
        bad_images=bad_images,
        notes=tuple(notes),
        order=order,
        shared=shared_order(data, images["train"].targets),
    )
