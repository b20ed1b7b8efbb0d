"""Tests of tables of real images: classes of CIFAR-10, blood cells as labels, and a mouse's position as values."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from tests.conftest import Run

from convoy.config.data_schema import DataConfig
from convoy.data.data_module import ImageData

CPU = ("logger=csv", "trainer.gpus=0", "trainer.precision=32", "hardware.cpu_threads=1", "data.num_workers=2")
SMALL = (
    "data.image_size=32",
    "data.eval_resize=32",
    "data.augment.random_resized_crop=null",
    "data.augment.flip=false",
)
NETWORK = 'model.layers=[CONV3-8,POOL2,CONV3-16,POOL4,"FC-{num_classes}"]'
CLASSES = ("airplane", "bird", "cat")
CELLS = ("Platelets", "RBC", "WBC")


def write_table(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def data_of(file: Path, root: Path, **settings: object) -> ImageData:
    """Return the opened data of a table with images of 32 pixels that are not augmented."""
    shape = {"name": "table", "source": "table", "image_size": 32, "mean": [0.5], "std": [0.25], "num_workers": 2}
    data = DataConfig(**shape, file=str(file), root=str(root), **settings)  # type: ignore[arg-type]
    module = ImageData(data, seed=1, micro_batch_size=10, accumulation=1, eval_batch_size=50)
    module.open()
    return module


def targets_of(module: ImageData, split: str) -> torch.Tensor:
    return torch.cat([batch.targets for batch in module.evaluation_loader(split)])


@pytest.mark.slow
def test_a_table_trains_as_the_image_folder_does(
    real_data: Callable[..., Path], convoy: Callable[..., Run], tmp_path: Path
) -> None:
    root = real_data("cifar10_jpeg", *(f"t*/{name}/00[0-3]?.jpg" for name in CLASSES))
    rows = [["file", "species", "part"]]
    for path in sorted(root.rglob("*.jpg")):
        split, species, _ = path.relative_to(root).parts
        rows.append([str(path.relative_to(root)), species, split])
    file = write_table(tmp_path / "labels.csv", rows)
    words = (*CPU, *SMALL, NETWORK, "trainer.max_epochs=2", "trainer.global_batch_size=16", "trainer.log_every_steps=1")
    folder = convoy("train", "data=image_folder", f"data.root={root}", *words, folder="folder")
    columns = ("data.image_column=file", "data.target_column=species", "data.split_column=part")
    table = convoy("train", "data=table", f"data.file={file}", f"data.root={root}", *columns, *words, folder="table")
    assert (folder.code, table.code) == (0, 0), folder.err + table.err
    assert len([row for row in table.rows() if row["train/loss"]]) > 10
    assert table.rows() == folder.rows()


@pytest.mark.slow
def test_blood_cells_are_labels(real_data: Callable[..., Path], convoy: Callable[..., Run], tmp_path: Path) -> None:
    root = real_data("bccd", "JPEGImages/*_000[0-9]?.jpg", "Annotations/*_000[0-9]?.xml")
    present = {
        path.stem: {str(name.text) for name in ElementTree.parse(path).iterfind("object/name")}
        for path in sorted((root / "Annotations").glob("*.xml"))
    }
    columns = [["image", *CELLS], *([f"{stem}.jpg", *(str(int(c in f)) for c in CELLS)] for stem, f in present.items())]
    texts = [["image", "cells"], *([f"{stem}.jpg", " | ".join(sorted(cells))] for stem, cells in present.items())]
    settings = {"image_column": "image", "target": "multi_hot", "val_fraction": 0.25}
    modules = [
        data_of(write_table(tmp_path / name, rows), root / "JPEGImages", target_column=column, **settings)
        for name, rows, column in (("columns.csv", columns, list(CELLS)), ("texts.csv", texts, "cells"))
    ]
    for module in modules:
        assert module.targets.names == CELLS
        counted = sum(targets_of(module, split).sum(0) for split in ("train", "val"))
        assert counted.tolist() == [sum(cell in cells for cells in present.values()) for cell in CELLS]  # type: ignore[union-attr]
        assert module.sizes["val"] == round(len(present) * 0.25)
    assert torch.equal(targets_of(modules[0], "train"), targets_of(modules[1], "train"))
    run = convoy(
        "train",
        *("task=multilabel", "data=table", f"data.file={tmp_path}/texts.csv", f"data.root={root}/JPEGImages"),
        *("data.image_column=image", "data.target_column=cells", "trainer.max_steps=4", "trainer.global_batch_size=16"),
        *(*CPU, *SMALL, NETWORK),
    )
    assert run.code == 0, run.err
    assert "3 labels" in run.out
    assert run.summary()["steps"] == 4
    counts = run.summary()["training_counts"]
    assert list(counts) == list(CELLS)
    assert all(0 < counts[cell] <= sum(cell in cells for cells in present.values()) for cell in CELLS)


@pytest.mark.parametrize("columns", [["snout_x", "snout_y"], "tailbase_x"])
def test_a_mouse_has_a_position(
    columns: list[str] | str, real_data: Callable[..., Path], convoy: Callable[..., Run]
) -> None:
    root = real_data("mouse_pose")
    file = root / "keypoints.csv"
    names = [columns] if isinstance(columns, str) else columns
    with file.open(newline="") as opened:
        expected = sorted([float(row[name]) for name in names] for row in csv.DictReader(opened))
    settings = {"image_column": "image", "target_column": columns, "target": "values", "val_fraction": 0.2}
    module = data_of(file, root / "images", **settings)
    found = torch.cat([targets_of(module, split) for split in ("train", "val")])
    assert module.targets.names == tuple(names)
    assert sorted(found.tolist()) == pytest.approx([pytest.approx(row, rel=1e-6) for row in expected])
    run = convoy(
        "train",
        *("task=regression", "data=table", f"data.file={file}", f"data.root={root}/images", "data.image_column=image"),
        *(f"data.target_column=[{','.join(names)}]", "trainer.max_epochs=1", "trainer.global_batch_size=16"),
        *(*CPU, *SMALL, NETWORK),
    )
    assert run.code == 0, run.err
    assert run.rows()[-1]["val/rmse"]
