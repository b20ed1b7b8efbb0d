"""Tests of the files of tables against pandas and pyarrow, and of the mistakes in them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tests.data.loader_checks import check_resume_and_ranks

from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.check import check_data, num_targets
from convoy.data.data_module import ImageData
from convoy.data.opening.file_splits import file_splits
from convoy.data.opening.open_data import open_data
from convoy.data.tables.image_table import read_table

KINDS = ["b", "a", "b", "c", "a", "c", "b", "a"]
FRAME = pd.DataFrame(
    {
        "image": [f"{number}.png" for number in range(8)],
        "kind": KINDS,
        "size": [float(number) for number in range(8)],
        "patient": ["p1", "p1", "p2", "p2", "p3", "p3", "p4", "p4"],
    }
)


def table(file: Path, **changes: Any) -> DataConfig:
    for number in range(8):
        Image.new("RGB", (9, 8), (number * 30, 7, 255)).save(file.parent / f"{number}.png")
    settings: dict[str, Any] = {
        "name": "table",
        "source": "table",
        "file": str(file),
        "image_column": "image",
        "target_column": "kind",
        "image_size": 8,
        "mean": [0.5],
        "std": [0.25],
        "val_fraction": 0.5,
        "num_workers": 2,
    }
    return DataConfig(**(settings | changes))


def write(frame: pd.DataFrame, file: Path) -> None:
    """Write a frame by pandas, in the format of the suffix."""
    writers = {
        ".csv": lambda: frame.to_csv(file, index=False),
        ".tsv": lambda: frame.to_csv(file, index=False, sep="\t"),
        ".jsonl": lambda: frame.to_json(file, orient="records", lines=True),
        ".parquet": lambda: frame.to_parquet(file, index=False),
    }
    writers[file.suffix]()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_each_format_has_the_rows_that_pandas_wrote(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"labels{suffix}"
    write(FRAME, file)
    data = table(file)
    assert check_data(data) == []
    assert num_targets(data) == 3
    read = read_table(data)
    assert [Path(path).name for path in read.paths] == FRAME["image"].tolist()
    assert list(read.rows) == pd.Categorical(FRAME["kind"]).codes.tolist()
    values = read_table(table(file, target="values", target_column="size"))
    assert [row[0] for row in values.rows if isinstance(row, tuple)] == FRAME["size"].tolist()
    assert {split: files.paths for split, files in file_splits(data).splits.items()} == {
        split: files.paths for split, files in file_splits(table(file)).splits.items()
    }


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_delimiter_is_that_of_the_header(tmp_path: Path, delimiter: str, encoding: str) -> None:
    file = tmp_path / "labels.csv"
    FRAME.to_csv(file, index=False, sep=delimiter, encoding=encoding)
    assert read_table(table(file)).targets.names == ("a", "b", "c")
    text = file.read_text(encoding).replace(delimiter + "c" + delimiter, delimiter + "c" + delimiter * 2, 1)
    file.write_text(text, encoding)
    (fault,) = check_data(table(file))
    assert "line 5 has 5 cells, the header 4; quote cells that contain the separator, a " in str(fault)


def encoded(number: int, form: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (20 + number, 24, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["bytes", "struct", "struct_with_path", "large_binary"])
def test_images_in_a_parquet_file(tmp_path: Path, kind: str) -> None:
    contents = [encoded(number, "JPEG" if number % 2 else "PNG") for number in range(8)]
    column: Any = pa.array(contents)
    if kind == "large_binary":
        column = pa.array(contents, pa.large_binary())
    if kind.startswith("struct"):
        values: list[dict[str, Any]] = [{"bytes": content, "path": None} for content in contents]
        if kind == "struct_with_path":
            (tmp_path / "three.img").write_bytes(contents[3])
            values[3] = {"bytes": None, "path": "three.img"}
        column = pa.array(values, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    pq.write_table(pa.table({"image": column, "kind": KINDS}), tmp_path / "set.parquet", row_group_size=3)
    packed = table(tmp_path / "set.parquet")
    assert num_targets(packed) == 3
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.png").write_bytes(content)
    write(FRAME, tmp_path / "labels.csv")
    files = DataConfig(**(vars(packed) | {"file": str(tmp_path / "labels.csv")}))
    for split in ("train", "val"):
        ours, theirs = (batch_of(data, split) for data in (packed, files))
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_resume_and_ranks(tmp_path: Path) -> None:
    contents = [encoded(number, "JPEG") for number in range(20)]
    pq.write_table(pa.table({"image": contents, "kind": ["a", "b"] * 10}), tmp_path / "set.parquet")
    check_resume_and_ranks(table(tmp_path / "set.parquet", val_fraction=0.2))


def batch_of(data: DataConfig, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    module = ImageData(data, seed=1, micro_batch_size=1, accumulation=1, eval_batch_size=100)
    module.open()
    (batch,) = module.evaluation_loader(split)
    return batch.images, batch.targets


def test_labels_as_lists(tmp_path: Path) -> None:
    labels = [["river", "lake"], [], ["lake"], None]
    frame = pd.DataFrame({"image": [f"{number}.png" for number in range(4)], "kind": labels})
    for name in ("set.parquet", "set.jsonl"):
        write(frame, tmp_path / name)
        read = read_table(table(tmp_path / name, target="multi_hot"))
        assert read.targets.names == ("lake", "river")
        assert read.rows == ((1, 1), (0, 0), (1, 0), (0, 0))


def test_groups_stay_together(tmp_path: Path) -> None:
    write(FRAME, tmp_path / "labels.csv")
    data = table(
        tmp_path / "labels.csv", group_column="patient", test_fraction=0.25, val_fraction=0.34, target="values"
    )
    data.target_column = "size"
    splits = file_splits(data).splits
    patients = {name: {FRAME["patient"][int(Path(p).stem)] for p in files.paths} for name, files in splits.items()}
    assert set.union(*patients.values()) == {"p1", "p2", "p3", "p4"}
    assert sum(map(len, patients.values())) == 4
    assert {name: len(files) for name, files in splits.items()} == {"train": 4, "val": 2, "test": 2}


def test_whole_numbers_and_similar_names_are_noted(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    FRAME.assign(kind=["1.0", "2", "1", "2.0", "10.0", "10", "1.", "2.0"]).to_csv(file, index=False)
    opened = open_data(table(file), 1)
    assert opened.targets.names == ("1", "10", "2")
    assert "the classes of column kind are read as whole numbers: 1. as 1." in opened.notes
    FRAME.assign(kind=["Cat ", "cat", "cat", "Cat", "dog", " dog", "sea lion", "sealion"]).to_csv(file, index=False)
    faults = check_data(table(file))
    assert "2 classes with one image, so none is left for val: sea lion (line 8), sealion (line 9)" in str(faults[0])
    (note,) = read_table(table(file, target="multi_hot")).notes
    expected = "Cat (2 images) and cat (2 images), sea lion (1 image) and sealion (1 image)"
    assert note == f"names in column kind differ only by case or spaces: {expected}."


def test_repeated_rows(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    repeated = pd.concat([FRAME, FRAME[2:4]])
    repeated.to_csv(file, index=False)
    read = read_table(table(file))
    assert len(read.paths) == 8
    assert read.notes == (f"2 rows of {file} repeated an image and were left out: line 10 and line 4.",)
    repeated.assign(kind=[*KINDS, "b", "a"]).to_csv(file, index=False)
    (fault,) = check_data(table(file))
    assert f"line 5 and line 11 have the same image, {tmp_path}/3.png, with different targets; keep one" in str(fault)
    assert "add task=multilabel" in str(fault)
    repeated.assign(split=["train"] * 9 + ["val"]).to_csv(file, index=False)
    (fault,) = check_data(table(file, split_column="split"))
    assert "data.split_column=split: line 5 and line 11 have the same image" in str(fault)


def test_paths_of_windows(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    data = table(file)
    (tmp_path / "sub").mkdir()
    for number in range(8):
        (tmp_path / f"{number}.png").rename(tmp_path / "sub" / f"{number}.png")
    FRAME.assign(image=[f"sub\\{number}.png" for number in range(8)]).to_csv(file, index=False)
    assert set(file_splits(data).splits["train"].paths) < {f"{tmp_path}/sub/{number}.png" for number in range(8)}
    FRAME.assign(image=[f"C:\\data\\{number}.png" for number in range(8)]).to_csv(file, index=False)
    with pytest.raises(UserError, match=r"line 2: .* does not exist \(8 images of 8 missing\); write paths relative"):
        open_data(data, 1)


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("inner/{}.png", r"there is .*/0\.png: correct the paths, which are relative to "),
        ("{}.jpg", "the paths are relative to .*; data.root=… names another folder"),
    ],
)
def test_the_remedy_of_missing_images(tmp_path: Path, path: str, remedy: str) -> None:
    file = tmp_path / "labels.csv"
    FRAME.assign(image=[path.format(number) for number in range(8)]).to_csv(file, index=False)
    with pytest.raises(UserError, match=remedy):
        open_data(table(file), 1)


def test_a_missing_suffix_is_added(tmp_path: Path) -> None:
    FRAME.assign(image=range(8)).to_csv(tmp_path / "labels.csv", index=False)
    assert {Path(path).suffix for path in file_splits(table(tmp_path / "labels.csv")).splits["train"].paths} == {".png"}


def test_the_folder_of_missing_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    FRAME.to_csv(tmp_path / "labels.csv", index=False)
    data = table(tmp_path / "images" / "labels.csv")
    data.file = str(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=f"write data.root={tmp_path}/images") as caught:
        open_data(data, 1)
    data.root = str(caught.value.faults[0]).partition("data.root=")[2].partition(",")[0]
    assert open_data(data, 1).sizes == {"train": 4, "val": 4, "test": 0}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"image": "0.png"}\n\n{"image"\n', "line 3 is not JSON"),
        ("x.jsonl", '["0.png"]', "is a JSON array; write one object per line"),
        ("x.json", '{"image": "0.png"}\n3\n', "line 2 is not an object"),
        ("x.jsonl", "\n", "has no rows"),
        ("x.jsonl", '{"image": {"bytes": ""}, "kind": "a"}\n', "line 1 has an object instead of text"),
        ("x.jsonl", '{"image": ["0.png"], "kind": "a"}\n', "line 1 has a list instead of text"),
        ("x.jsonl", '{"image": "0.png", "kind": "a"}\n{"image": "1.png"}\n', "line 2 is empty; correct 1 cell"),
        ("x.parquet", "PAR1", "can't be read ("),
        ("x.xlsx", "", "is an Excel file, which is not read; export it as CSV, TSV, JSON lines (.jsonl) or Parquet"),
        ("x.csv", "0.png,a\n1.png,b\n", "has no such column; the columns are 0.png, a"),
    ],
)
def test_fault_of_a_file(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    assert any(message in str(fault) for fault in check_data(table(tmp_path / name))), check_data(
        table(tmp_path / name)
    )


def test_fault_of_a_parquet_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x", None], "kind": ["a", "b"], "n": [1, 2]}), tmp_path / "x.parquet")
    (fault,) = check_data(table(tmp_path / "x.parquet", image_column="n"))
    assert "data.image_column=n: has values of type int64; name a column of paths, of bytes, or of" in str(fault)
    data = table(tmp_path / "x.parquet", target="values", target_column="n")
    with pytest.raises(UserError, match="row 2 has no image; remove the row"):
        open_data(data, 1)
    (tmp_path / "folder").mkdir()
    data.file = str(tmp_path / "folder")
    (fault,) = check_data(data)
    assert "is a folder; give one file; a folder of Parquet files is read by data=huggingface" in str(fault)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(FRAME, tmp_path / "labels.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (fault,) = check_data(table(tmp_path / "labels.parquet"))
    assert "a Parquet file needs the package pyarrow; pip install 'convoy[parquet]'" in str(fault)


def test_text_tables_do_not_import_pyarrow_or_torch(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({"image": "0.png", "kind": "a"}) + "\n")
    code = (
        "import sys; from convoy.config.schema import DataConfig; from convoy.data.check import check_data\n"
        "check_data(DataConfig(name='x', source='table', file='x.jsonl', image_column='image', target_column='kind',"
        " image_size=8, mean=[0.5], std=[0.5]))\n"
        "print([name for name in ('torch', 'pyarrow', 'numpy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
