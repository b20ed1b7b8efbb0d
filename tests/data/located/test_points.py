"""Tests of key points: they move with the pixels of their image, and tables with faults are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.located.conftest import HEIGHT, WIDTH, position_image

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.config.image_size import Sides
from convoy.data.batches.collate import Batch, BatchSpec
from convoy.data.check import check_data
from convoy.data.data_module import ImageData
from convoy.data.images.crop_geometry import CropBox
from convoy.data.located.placement import Placement
from convoy.data.opening.open_data import open_data
from convoy.data.sampling.samplers import TrainingSampler, micro_batches_of

POINTS = {"snout": (60.0, 40.0), "leftear": (40.0, 30.0), "rightear": (80.0, 30.0)}
MakeData = Callable[..., DataConfig]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Table of 12 images whose colors say where each pixel comes from, with three points."""
    header = ",".join(f"{name}_x,{name}_y" for name in POINTS)
    values = ",".join(f"{x},{y}" for x, y in POINTS.values())
    lines = [f"image,{header}"]
    for index in range(12):
        position_image().save(tmp_path / f"{index}.png")
        lines.append(f"{index}.png,{values}")
    (tmp_path / "points.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "points.csv"


def point_data(table: Path, augment: AugmentConfig | None = None, **changes: Any) -> DataConfig:
    settings = {
        "name": "keypoint_table",
        "source": "table",
        "target": "keypoints",
        "file": str(table),
        "image_column": "image",
        "image_size": [60, 80],
        "eval_view": "fit",
        "val_fraction": 0.3,
        "mean": [0.0],
        "std": [1.0],
    }
    return DataConfig(**(settings | changes), augment=augment or AugmentConfig())


def training_batches(data: DataConfig) -> list[Batch]:
    opened = open_data(data, seed=3)
    sampler = TrainingSampler(opened.sizes["train"], 3, 4)
    return list(opened.train.batches(sampler, 0, 0, 6, BatchSpec(torch.device("cpu"), num_threads=2)))


@pytest.mark.parametrize(
    "augment",
    [
        AugmentConfig(),
        AugmentConfig(flip=True),
        AugmentConfig(random_crop=True, flip=True),
        AugmentConfig(scale_jitter=[60, 90]),
        AugmentConfig(random_resized_crop=[0.4, 1.0], flip=True),
        AugmentConfig(rotation=30),
        AugmentConfig(perspective=0.4, flip=True),
        AugmentConfig(affine=[20, 0.1, 0.2, 10], rotation=20, perspective=0.3, flip=True, scale_jitter=[60, 80]),
    ],
    ids=["none", "flip", "crop", "jitter", "resized", "rotation", "perspective", "chain"],
)
def test_points_move_with_their_image(table: Path, augment: AugmentConfig) -> None:
    names = list(POINTS)
    found = set()
    for images, targets in training_batches(point_data(table, augment)):
        assert targets.shape == (4, 3, 4)
        for image, points in zip(images, targets, strict=True):
            red_grows = bool(image[0, 30, 50] > image[0, 30, 30])
            for index, (x, y, known, _) in enumerate(points.tolist()):
                if not known:
                    assert (x, y) == (0, 0)
                    continue
                column, row = round(x), round(y)
                if not (1 <= column < 79 and 1 <= row < 59) or image[2, row, column] < 1:
                    continue  # at the border, pixels are blended with the outside
                # In a mirrored image, the point on the left side is the other one.
                swapped = {"leftear": "rightear", "rightear": "leftear"}
                name = names[index] if red_grows else swapped.get(names[index], names[index])
                source = image[:2, row, column].numpy() * 255 / 2
                # Half a pixel of the result, which is up to 1.8 pixels of the source here.
                np.testing.assert_allclose(source, POINTS[name], atol=2.0)
                found.add((index, red_grows))
    assert {index for index, _ in found} == {0, 1, 2}
    assert {grows for _, grows in found} == ({True, False} if augment.flip else {True})


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_positions_in_the_file_are_the_inverse_of_a_placement(is_mirrored: bool) -> None:
    placement = Placement(CropBox(7, 5, 60, 40), Sides(20, 45), is_mirrored)
    points = np.array([[7, 5], [30.25, 12.5], [66, 44]], dtype=np.float32)
    moved = placement.points(points)
    # The centers of the outer pixels are half a pixel of the result from its edges.
    left = 0.5 * 45 / 60 - 0.5
    assert moved[0, 0] == pytest.approx(44 - left if is_mirrored else left)
    np.testing.assert_allclose(placement.source_points(moved), points, atol=1e-4)


def test_whole_images_are_refused_for_points(table: Path) -> None:
    (fault,) = check_data(point_data(table, eval_view="whole"))
    assert "data.eval_view=whole: is for masks and images as targets, and data.target is keypoints" in str(fault)


def test_evaluation_knows_the_pixels_of_the_file(table: Path) -> None:
    module = ImageData(point_data(table), seed=1, micro_batch_size=4, accumulation=1, eval_batch_size=4)
    module.open()
    targets = next(iter(module.evaluation_loader("val"))).targets
    scale = WIDTH / 80
    assert scale == HEIGHT / 60
    for index, (x, y) in enumerate(POINTS.values()):
        expected = torch.tensor([(x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5, 1.0, scale])
        torch.testing.assert_close(targets[0, index], expected)


def test_unknown_and_invisible_points(table: Path) -> None:
    lines = ["image,a_x,a_y,a_visible,b_x,b_y"]
    lines += [
        f"{index}.png,10,20,{index % 2},{'' if index % 3 else 30},{'' if index % 3 else 40}" for index in range(9)
    ]
    table.write_text("\n".join(lines) + "\n")
    opened = open_data(point_data(table), 1)
    assert opened.targets.names == ("a", "b")
    module = ImageData(point_data(table), seed=1, micro_batch_size=4, accumulation=1, eval_batch_size=9)
    module.open()
    for split in ("train", "val"):
        images = opened.images[split]
        targets = torch.cat([batch.targets for batch in module.evaluation_loader(split)])
        for sample, known in enumerate(targets[..., 2].tolist()):
            index = int(Path(images.name(sample)).stem)
            assert known == [index % 2, index % 3 == 0]


def test_points_outside_of_their_images_are_not_counted(table: Path) -> None:
    lines = ["image,a_x,a_y,b_x,b_y", *(f"{index}.png,{10**index},20,0,{-index}" for index in range(9))]
    table.write_text("\n".join(lines) + "\n")
    opened = open_data(point_data(table), 1)
    for images in opened.images.values():
        assert images.located is not None
        for batch, reader in images.visit(micro_batches_of(torch.arange(len(images)), 4)):
            for place, sample in enumerate(batch.samples.tolist()):
                index = int(Path(images.name(sample)).stem)
                assert images.located.present(sample, reader.image(place)) == [10**index < WIDTH, index == 0]


@pytest.mark.parametrize(
    ("header", "row", "changes", "expected"),
    [
        ("image,a,b", "1,2", {}, "has no columns <point>_x and <point>_y"),
        ("image,nose_x,nose_y", "1,2", {"target_column": ["noze"]}, "no columns noze_x and noze_y; did you mean nose?"),
        ("image,nose_x,nose_y", "1,left", {}, "is not a number"),
        ("image,nose_x,nose_y", "1,2", {"point_pairs": [["nose", "ear"]]}, "[nose,ear] is no pair of points"),
        ("image,nose_x,nose_y", "1,2", {"point_pairs": ["nose", "ear"]}, "nose is no pair of points; write pairs such"),
        ("image,nose_x,nose_y,ear_y", "1,2,3", {}, "has the column ear_y, and not ear_x; add it, or name the points: "),
        ("image,nose_x,nose_y", "1,2", {"eval_view": "crop"}, "would leave out a part of the targets"),
    ],
)
def test_faults(table: Path, header: str, row: str, changes: dict[str, Any], expected: str) -> None:
    table.write_text("\n".join([header, *(f"{index}.png,{row}" for index in range(12))]) + "\n")
    data = point_data(table, **changes)
    faults = [str(fault) for fault in check_data(data)]
    if not faults:
        with pytest.raises(UserError) as caught:
            open_data(data, 1)
        faults = [str(caught.value)]
    assert any(expected in fault for fault in faults), faults
