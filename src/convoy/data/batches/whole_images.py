"""Evaluation on whole images in their own size, one at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.config.image_size import Sides
from convoy.data.batches.collate import Batch, BatchFinalizer, BatchSpec
from convoy.data.batches.decode_ahead import BATCHES_AHEAD
from convoy.data.batches.device_copy import to_device
from convoy.data.images.bad_images import BadImageError, BadImages
from convoy.data.images.crop_geometry import CropBox
from convoy.data.located.placement import Placement
from convoy.data.reading.split_images import OpenBatch, SplitImages
from convoy.data.sampling.samplers import EvaluationSampler, MicroBatch


class WholeEvaluation:
    """Images of a split in their own sizes, one per batch, not augmented."""

    def __init__(self, pictures: SplitImages, data: DataConfig, bad_images: BadImages) -> None:
        self._pictures = pictures
        self._data = data
        self._bad_images = bad_images

    def batches(self, sampler: EvaluationSampler, rank: int, spec: BatchSpec) -> Iterator[Batch]:
        """Yield the batches of `rank`.

        Raises:
            UserError: if the images can't be divided by the number of ranks.
        """
        if sampler.largest_batch > 1:
            rule = f"shows one image at a time, and {sampler.num_samples} images can't be divided by the ranks"
            raise UserError(Fault("data.eval_view", rule, "use one GPU or process, or data.eval_view=fit", "whole"))
        finish, located = BatchFinalizer(self._data, spec), self._pictures.located
        assert located is not None, "the check of data.eval_view requires it"
        pending: deque[Future[tuple[NDArray[np.uint8], Any] | BadImageError]] = deque()
        coming = iter(self._pictures.visit(sampler.batches(rank)))
        with ThreadPoolExecutor(spec.num_threads, thread_name_prefix="convoy-decode") as pool:
            while True:
                while len(pending) < BATCHES_AHEAD and (one := next(coming, None)) is not None:
                    pending.append(pool.submit(self._read, *one))
                if not pending:
                    return
                found = pending.popleft().result()
                if isinstance(found, BadImageError):
                    self._bad_images.add(found)
                    continue
                pixels, target = found
                images = to_device(torch.from_numpy(pixels)[None].permute(0, 3, 1, 2), spec.device)
                targets = to_device(target, spec.device)
                yield finish(images, located.finished(targets, None, Sides(*pixels.shape[:2])))

    def _read(self, batch: MicroBatch, opened: OpenBatch) -> tuple[NDArray[np.uint8], Any] | BadImageError:
        located = self._pictures.located
        assert located is not None, "the check of data.eval_view requires it"
        try:
            picture = opened.image(0)
            size = located.input_size(Sides(picture.height, picture.width))
            pixels = np.empty((*size, self._data.channels), dtype=np.uint8)
            slots, shown = located.slots(1, size), located.picture_size(size)
            # What a scale does not divide is cut off.
            placement = Placement(CropBox(0, 0, shown.width, shown.height), shown)
            located.write(int(batch.samples[0]), picture, placement, pixels, slots[0])
            located.complete(pixels, slots[0], None)
            return pixels, torch.from_numpy(slots)
        except BadImageError as error:
            return error
