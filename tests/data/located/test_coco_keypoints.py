"""Tests of key points in COCO's format: objects are cut out of images whose colors say where each pixel comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.located.conftest import HEIGHT, WIDTH, position_image

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.batches.collate import BatchSpec
from convoy.data.check import check_data
from convoy.data.data_module import ImageData
from convoy.data.opening.open_data import open_data
from convoy.data.sampling.samplers import TrainingSampler

NAMES = ["nose", "left_eye", "right_eye"]
POINTS = [[30, 20, 2, 25, 18, 1, 0, 0, 0], [80, 60, 2, 75, 55, 2, 90, 58, 2]]
BOXES = [[20.0, 10.0, 20.0, 24.0], [70.0, 50.0, 30.0, 30.0]]


def write(folder: Path, **changes: Any) -> Path:
    """Write six images with two objects each, a crowd and an object without a known point."""
    images, annotations = [], []
    for image in range(6):
        position_image().save(folder / f"{image}.png")
        images.append({"id": 100 + image, "file_name": f"{image}.png", "width": WIDTH, "height": HEIGHT})
        for points, box in zip(POINTS, BOXES, strict=True):
            annotations.append(
                {"id": len(annotations), "image_id": 100 + image, "keypoints": points, "bbox": box, "iscrowd": 0}
            )
    annotations.append({"id": 98, "image_id": 100, "keypoints": [0] * 9, "bbox": [0, 0, 5, 5], "iscrowd": 0})
    annotations.append({"id": 99, "image_id": 100, "keypoints": POINTS[0], "bbox": [0, 0, 5, 5], "iscrowd": 1})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "keypoints": NAMES}], **changes}
    (folder / "points.json").write_text(json.dumps(content))
    return folder / "points.json"


def coco_data(file: Path, augment: AugmentConfig | None = None) -> DataConfig:
    return DataConfig(
        name="coco_keypoints",
        source="coco_keypoints",
        target="keypoints",
        file=str(file),
        image_size=[48, 60],
        eval_view="fit",
        val_fraction=0.34,
        mean=[0.0],
        std=[1.0],
        augment=augment or AugmentConfig(),
    )


def test_objects_are_images_and_those_of_one_image_stay_together(tmp_path: Path) -> None:
    opened = open_data(coco_data(write(tmp_path)), 1)
    assert opened.targets.names == tuple(NAMES)
    assert opened.sizes == {"train": 8, "val": 4, "test": 0}
    parts = [{opened.images[split].name(index) for index in range(opened.sizes[split])} for split in ("train", "val")]
    assert not parts[0] & parts[1]
    assert "12 objects, each of which is an image." in " ".join(opened.notes)
    assert "1 crowd of" in " ".join(opened.notes)


@pytest.mark.parametrize("augment", [AugmentConfig(), AugmentConfig(flip=True, affine=[10, 0.05, 0.1, 0])])
def test_points_stay_on_their_pixels(tmp_path: Path, augment: AugmentConfig) -> None:
    opened = open_data(coco_data(write(tmp_path), augment), 1)
    sampler = TrainingSampler(opened.sizes["train"], 1, 4)
    swapped = {"left_eye": "right_eye", "right_eye": "left_eye"}
    seen = 0
    for images, targets in opened.train.batches(sampler, 0, 0, 4, BatchSpec(torch.device("cpu"))):
        for image, points in zip(images, targets, strict=True):
            is_mirrored = bool(image[0, 24, 20] > image[0, 24, 32])
            for name, (x, y, known, _) in zip(NAMES, points.tolist(), strict=True):
                column, row = round(x), round(y)
                if not known or not (1 <= column < 59 and 1 <= row < 47) or image[2, row, column] < 1:
                    continue
                index = NAMES.index(swapped.get(name, name) if is_mirrored else name)
                source = image[:2, row, column].numpy() * 255 / 2
                wanted = [np.array(own[3 * index : 3 * index + 2]) for own in POINTS]
                assert min(np.abs(source - one).max() for one in wanted) < 1.5
                seen += 1
    assert seen > 20


def test_a_box_is_enlarged_by_a_fourth_within_the_image(tmp_path: Path) -> None:
    module = ImageData(coco_data(write(tmp_path)), seed=1, micro_batch_size=4, accumulation=1, eval_batch_size=4)
    module.open()
    images, targets = next(iter(module.evaluation_loader("val")))
    # 25x30 pixels, from 17.5,7: whole pixels are 26x30, as large as they fit into 60x48.
    assert float(targets[0, 0, 3]) == pytest.approx(26 / 42, rel=0.01)
    assert (images[0] * 255)[0, 0, 0] == pytest.approx(2 * 17, abs=1.5)
    assert (images[0] * 255)[1, 0, 0] == pytest.approx(2 * 7, abs=1.5)
    assert targets[0, :, 2].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"categories": []}, "has 0 categories with key points; it needs one category"),
        ({"annotations": []}, "has no object with a known point"),
        ({"images": []}, "names the image 100, which"),
    ],
)
def test_faults_of_files(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    data = coco_data(write(tmp_path, **changes))
    faults = [str(fault) for fault in check_data(data)]
    if not faults:
        with pytest.raises(UserError) as caught:
            open_data(data, 1)
        faults = [str(caught.value)]
    assert any(expected in fault for fault in faults), faults


def test_files_that_are_not_coco(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text("{}")
    assert "has no images and no annotations and no categories" in str(check_data(coco_data(file))[0])
    file.write_text("snout_x,snout_y")
    assert "is not JSON" in str(check_data(coco_data(file))[0])
    assert "can't be read (no such file or directory)" in str(check_data(coco_data(tmp_path / "none.json"))[0])
