"""Tests of data sets of Hugging Face that are read from Parquet files while training runs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, Value
from tests.data.dataset_files import config, content, content_of, make, picture
from tests.data.fake_hub import NAME, fake_hub
from tests.data.loader_checks import check_resume_and_ranks

from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.batches.decode_ahead import BATCHES_AHEAD
from convoy.data.check import check_data, num_targets
from convoy.data.data_module import ImageData
from convoy.data.huggingface import parquet_rows
from convoy.data.opening.file_splits import file_splits
from convoy.data.opening.open_data import open_data

pytestmark = pytest.mark.usefixtures("own_cache")

GROUP = 4


def write(root: Path, **parts: Dataset) -> Path:
    """Write each split as two files with row groups of `GROUP` rows."""
    root.mkdir()
    for split, part in parts.items():
        for number in (0, 1):
            path = root / f"{split}-0000{number}-of-00002.parquet"
            part.shard(2, number, contiguous=True).to_parquet(path, batch_size=GROUP)
    return root


def streamed(root: Path, **changes: Any) -> DataConfig:
    return config(root, streaming=True, **changes)


def opened(data: DataConfig, micro_batch_size: int = 2) -> ImageData:
    module = ImageData(data, seed=1, micro_batch_size=micro_batch_size, accumulation=1, eval_batch_size=4)
    module.open()
    return module


def images_of(module: ImageData, epoch: int = 0, rank: int = 0, world_size: int = 1) -> list[bytes]:
    first = epoch * module.steps_per_epoch(world_size)
    batches = module.training_loader(first, rank=rank, world_size=world_size)
    return [image.numpy().tobytes() for batch in batches for image in (batch.images * 255).round().to(torch.uint8)]


def test_splits_are_those_of_datasets(tmp_path: Path) -> None:
    train, val = make(22), make(9, first=40)
    data = streamed(write(tmp_path / "set", train=train, validation=val))
    assert check_data(data) == []
    assert num_targets(data) == 3
    for split, expected in (("train", train), ("val", val)):
        for found, theirs in zip(content(data, split), content_of(expected), strict=True):
            assert torch.equal(found, theirs)


@pytest.mark.parametrize("changes", [{"val_fraction": 0.25, "test_fraction": 0.25}, {"folds": 3, "fold": 1}])
def test_held_out_rows_are_those_without_streaming(tmp_path: Path, changes: dict[str, Any]) -> None:
    scenes = ([f"s{number // 2}" for number in range(24)], Value("string"))
    data = streamed(
        write(tmp_path / "set", train=make(24, scene=scenes)), target_column="label", group_column="scene", **changes
    )
    assert file_splits(data) == file_splits(replace(data, streaming=False))
    for split in file_splits(data).splits:
        ours, theirs = (content(replace(data, streaming=streaming), split) for streaming in (True, False))
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("form", ["struct", "binary"])
def test_a_file_of_another_program(tmp_path: Path, form: str) -> None:
    """Files without the features of `datasets`: the classes are the distinct values."""
    files = [picture(number) for number in range(10)]
    images = [{"bytes": file, "path": None} for file in files] if form == "struct" else files
    table = pa.table({"image": images, "word": ["b", "a"] * 5})
    pq.write_table(table, tmp_path / "set.parquet", row_group_size=3)
    data = streamed(tmp_path / "set.parquet", val_fraction=0.2)
    assert open_data(data, 1).targets.names == ("a", "b")
    ours, theirs = (content(replace(data, streaming=streaming), "train") for streaming in (True, False))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


def test_resume_and_ranks(tmp_path: Path) -> None:
    dataset = make(24)
    data = streamed(write(tmp_path / "set", train=dataset, validation=make(4, first=40)), shuffle_buffer=6)
    check_resume_and_ranks(data, same_global_batch=False)
    expected = Counter(image.numpy().tobytes() for image in content_of(dataset)[0])
    module = opened(data)
    assert Counter(images_of(module)) == expected
    assert Counter(images_of(module, rank=0, world_size=2) + images_of(module, rank=1, world_size=2)) == expected
    assert images_of(module) != images_of(module, epoch=1)


def test_only_targets_are_read_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, columns = write(tmp_path / "set", train=make(24)), []
    read = pq.ParquetFile.read_row_groups

    def recorded(self: Any, *args: Any, **settings: Any) -> Any:
        columns.append(*settings["columns"])
        return read(self, *args, **settings)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", recorded)
    module = opened(streamed(root, val_fraction=0.2))
    assert columns == ["label", "label"]
    images_of(module)
    assert columns[2:] == ["img"] * (24 // GROUP)


def test_memory_is_bounded_and_each_row_group_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: WeakSet[Any] = WeakSet()
    most, groups = 0, []
    read = parquet_rows.RowGroups.read

    def counted(self: parquet_rows.RowGroups, block: int) -> Callable[[int], bytes]:
        nonlocal most
        content = read(self, block)
        held.add(content)
        groups.append(block)
        most = max(most, len(held))
        return content

    monkeypatch.setattr(parquet_rows.RowGroups, "read", counted)
    monkeypatch.setattr(parquet_rows, "AHEAD_BYTES", 1)
    data = streamed(
        write(tmp_path / "set", train=make(30 * GROUP), validation=make(4, first=200)), shuffle_buffer=GROUP
    )
    images_of(opened(data))
    assert sorted(groups) == list(range(30))
    # The buffer and the batches ahead, each of which may begin within a row group, the one in which the epoch begins
    # and ends, and the one ahead.
    assert most <= 2 + (2 * (BATCHES_AHEAD + 1) // GROUP + 2) + 1 + 1
    assert not held


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"root": "saved"},
            "data.streaming=true: applies only to Parquet files, and saved has the Arrow format; write",
        ),
        ({"root": "saved/data-00000-of-00001.arrow"}, "data.streaming=true: applies only to Parquet files"),
        ({"root": "csv"}, "data.streaming=true: applies only to Parquet files, and csv has train.csv; write data.stre"),
        ({"root": "train.csv"}, "CSV and JSON lines are read by data=table data.file=train.csv"),
        ({"target_column": "lable"}, "has no such column; did you mean label?"),
        ({"sampler": "balanced"}, "can't be used with data.streaming=true, which reads in sequence"),
        ({"source": "image_folder"}, "data.streaming=true: requires data.source=huggingface"),
        ({"root": "broken.parquet"}, "broken.parquet can't be read ("),
    ],
)
def test_fault_of_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(3).save_to_disk("saved")
    for name in ("train.csv", "csv/train.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("a,b\n1,2\n")
    Path("broken.parquet").write_text("PAR1")
    root = write(tmp_path / "set", train=make(6))
    faults = check_data(replace(streamed(root), **changes))
    assert any(message in str(fault) for fault in faults), faults


def test_files_that_differ_or_are_damaged(tmp_path: Path) -> None:
    root = write(tmp_path / "set", train=make(24), validation=make(4, first=40))
    module, path = opened(streamed(root)), root / "train-00001-of-00002.parquet"
    position = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"\xff" * 40)
    with pytest.raises(UserError, match=r"train-00001-of-00002\.parquet can't be read \(.*give complete Parquet files"):
        images_of(module)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("convoy-read")]
    make(4).remove_columns("label").to_parquet(path)
    with pytest.raises(UserError, match=r"train-00001-of-00002\.parquet has no column label, but other files do"):
        opened(streamed(root))
    make(4).select([]).to_parquet(root / "validation-00000-of-00002.parquet")
    make(4).select([]).to_parquet(root / "validation-00001-of-00002.parquet")
    make(4).to_parquet(path)
    with pytest.raises(UserError, match="the files of val have no rows; give files with one row per image"):
        opened(streamed(root))


def test_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convoy.data.huggingface.dataset_rows.LARGE_BLOCK_BYTES", 1 << 10)
    notes = file_splits(streamed(write(tmp_path / "set", train=make(9), validation=make(6)))).notes
    assert sum("write the files with smaller ones, such as row_group_size=1000" in note for note in notes) == 2
    assert not any("sorted by class" in note for note in notes)
    root = write(tmp_path / "sorted", train=make(9).sort("label"), validation=make(6).sort("label"))
    assert sum("sorted by class" in note for note in file_splits(streamed(root)).notes) == 1


def test_a_set_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, root = make(24), tmp_path / "repository"
    write(root, train=dataset, validation=make(4, first=40))
    with fake_hub(root) as (address, sent):
        for name, value in {
            "huggingface_hub.constants.ENDPOINT": address,
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE": address
            + "/{repo_id}/resolve/{revision}/{filename}",
            "huggingface_hub.constants.HF_HUB_CACHE": str(tmp_path / "hub"),
            "huggingface_hub.constants.HF_HUB_OFFLINE": False,
            "datasets.config.HF_ENDPOINT": address,
            "datasets.config.HF_HUB_OFFLINE": False,
            "datasets.config.USE_PARQUET_EXPORT": False,
        }.items():
            monkeypatch.setattr(name, value)
        module = opened(streamed(Path(NAME)))
        sent.clear()
        assert Counter(images_of(module)) == Counter(image.numpy().tobytes() for image in content_of(dataset)[0])
    # Each column chunk of images once, and nothing else.
    expected = []
    for path in root.glob("train-*"):
        footer = pq.read_metadata(path)
        for group in map(footer.row_group, range(footer.num_row_groups)):
            chunks = [group.column(index) for index in range(2)]
            begin = chunks[0].dictionary_page_offset or chunks[0].data_page_offset
            expected.append((path.name, begin, begin + sum(chunk.total_compressed_size for chunk in chunks)))
    assert sorted(sent) == sorted(expected)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".parquet", ".arrow") and path.parent != root]
