"""Check that every source passes: resume within an epoch, and data-parallel ranks."""

from __future__ import annotations

from dataclasses import replace

import torch

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.data.data_module import ImageData


def check_resume_and_ranks(data: DataConfig, *, same_global_batch: bool = True) -> None:
    """Check the batches from step 1 on against those of the whole epoch, and those of two ranks against one.

    The images are not square.

    Args:
        data: the config of a source with at least 12 training images.
        same_global_batch: whether a global batch has the same images with any number of ranks.
    """
    data = replace(data, image_size=[20, 28], augment=AugmentConfig(random_resized_crop=[0.3, 1.0], flip=True))

    def module(micro_batch_size: int) -> ImageData:
        opened = ImageData(data, seed=7, micro_batch_size=micro_batch_size, accumulation=1, eval_batch_size=5)
        opened.open()
        return opened

    whole = [(batch.images.clone(), batch.targets.clone()) for batch in module(4).training_loader(0)]
    resumed = [(batch.images.clone(), batch.targets.clone()) for batch in module(4).training_loader(1)]
    assert len(whole) >= 3
    assert whole[0][0].shape[2:] == (20, 28)
    assert len(resumed) == len(whole) - 1
    for ours, theirs in zip(resumed, whole[1:], strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])

    ranks = [list(module(2).training_loader(0, rank=rank, world_size=2)) for rank in (0, 1)]
    if same_global_batch:
        for step, batch in enumerate(whole):
            assert torch.equal(torch.cat([share[step].images for share in ranks]), batch[0])
    opened = module(4)
    evaluated = {
        world_size: [
            image.numpy().tobytes()
            for rank in range(world_size)
            for batch in opened.evaluation_loader("train", rank=rank, world_size=world_size)
            for image in batch.images
        ]
        for world_size in (1, 2)
    }
    assert len(evaluated[1]) == opened.sizes["train"]
    assert sorted(evaluated[1]) == sorted(evaluated[2])
