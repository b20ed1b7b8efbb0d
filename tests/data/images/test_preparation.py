"""Tests that a single image file is prepared exactly as the data module prepares its split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convoy.config.data_schema import DataConfig
from convoy.data.data_module import ImageData
from convoy.data.images.preparation import Preparation, prepare_files
from convoy.data.sources.digits import read_digits


def val_images(data: DataConfig, split: str) -> torch.Tensor:
    module = ImageData(data, seed=1, micro_batch_size=1, accumulation=1, eval_batch_size=512)
    module.open()
    return torch.cat([images for images, _ in module.evaluation_loader(split)])


@pytest.mark.parametrize(("fit", "size", "channels"), [("resize", 32, 1), ("resize", 20, 3), ("pad", 28, 3)])
def test_files_of_a_set_in_memory(tmp_path: Path, fit: str, size: int, channels: int) -> None:
    data = DataConfig(
        name="digits", source="digits", channels=channels, image_size=size, fit=fit, mean=[0.3], std=[0.4]
    )
    paths = []
    for number, image in enumerate(read_digits(data).test.images[:20]):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image[0].numpy(), "L").save(paths[-1])
    batches = list(prepare_files(paths, Preparation.of(data), batch_size=8, num_threads=2))
    assert [len(batch.images) for batch in batches] == [8, 8, 4]
    assert torch.equal(torch.cat([batch.images for batch in batches]), val_images(data, "test")[:20])


@pytest.mark.parametrize("channels", [1, 3])
def test_files_of_an_image_folder(tmp_path: Path, channels: int) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number, (height, width) in enumerate([(40, 60), (33, 31), (90, 50)]):
                path = tmp_path / split / name / f"{number}.png"
                Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
                paths.append(str(path))
    data = DataConfig(
        name="pets",
        source="image_folder",
        root=str(tmp_path),
        channels=channels,
        image_size=24,
        eval_resize=30,
        mean=[0.5] * channels,
        std=[0.25] * channels,
    )
    preparation = Preparation.of(data)
    assert Preparation.from_data(preparation.as_data()) == preparation
    (batch,) = prepare_files(paths[6:], preparation, batch_size=8, num_threads=2)
    assert torch.equal(batch.images, val_images(data, "val"))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_files_that_cannot_be_decoded_are_named(tmp_path: Path) -> None:
    data = DataConfig(name="digits", source="digits", channels=1, image_size=32, mean=[0.3], std=[0.4])
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (100, 60)).save(tmp_path / "photograph.png")
    paths = [str(tmp_path / name) for name in ("text.png", "photograph.png", "nowhere.png")]
    (batch,) = prepare_files(paths, Preparation.of(data), batch_size=8, num_threads=1)
    assert (batch.paths, set(batch.reasons)) == (tuple(paths), {paths[0], paths[2]})
    assert batch.images.shape == (1, 1, 32, 32)
