"""Tests of tar files of others, against the WebDataset library reading the same files."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from tests.conftest import Run
from tests.data.loader_checks import check_resume_and_ranks
from tests.data.shards.conftest import MakeData

from convoy.config.faults import UserError
from convoy.data.check import check_data, num_targets
from convoy.data.data_module import ImageData
from convoy.data.opening.open_data import open_data
from convoy.data.shards.indexing import Indexing, index_tars
from convoy.data.shards.shard_index import read_index
from convoy.data.shards.verify import verify

FORMS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def picture(number: int, extension: str = "jpg") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (24, 24, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, FORMS[extension], **({"lossless": True} if extension == "webp" else {}))
    return file.getvalue()


def write_tar(path: Path, samples: list[dict[str, Any]]) -> None:
    """Write a file by the WebDataset library, which encodes cls, txt and json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)


def samples_of(numbers: range, image: str = "jpg", **labels: Callable[[int], Any]) -> list[dict[str, Any]]:
    return [
        {"__key__": f"a/s{number:04}", image: picture(number, image)}
        | {name: of(number) for name, of in labels.items()}
        for number in numbers
    ]


def read_by_webdataset(paths: list[Path], image: str, label: str) -> tuple[torch.Tensor, list[Any]]:
    dataset = (
        webdataset.WebDataset([str(path) for path in paths], shardshuffle=False).decode("pil").to_tuple(image, label)
    )
    pairs = list(dataset)
    pixels = [torch.from_numpy(np.array(one.convert("RGB"))).permute(2, 0, 1) for one, _ in pairs]
    return torch.stack(pixels), [label for _, label in pairs]


def content(data: Any, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    module = ImageData(data, seed=1, micro_batch_size=2, accumulation=1, eval_batch_size=500)
    module.open()
    (batch,) = module.evaluation_loader(split)
    return (batch.images * 255).round().to(torch.uint8), batch.targets


@pytest.mark.parametrize("image", ["jpg", "png", "webp"])
@pytest.mark.parametrize("label", ["cls", "txt", "json"])
def test_samples_are_those_of_webdataset(tmp_path: Path, shard_data: MakeData, image: str, label: str) -> None:
    value: dict[str, Callable[[int], Any]] = {
        "cls": lambda number: number % 3,
        "txt": lambda number: ["ant", "bee", "cat"][number % 3],
        "json": lambda number: {"kind": {"id": number % 3}},
    }
    tars = tmp_path / "tars"
    files = {
        "train": [tars / f"train-{number:04}.tar" for number in range(3)],
        "val": [tars / "imagenet-validation-0.tar"],
        "test": [tars / "test" / "0.tar"],
    }
    for number, path in enumerate([path for paths in files.values() for path in paths]):
        write_tar(path, samples_of(range(7 * number, 7 * number + 7), image, **{label: value[label]}))
    index_tars(Indexing(str(tars), tars, label="json.kind.id" if label == "json" else None))
    data = shard_data(tars, image_size=24, mean=[0.0], std=[1.0])
    assert check_data(data) == []
    assert num_targets(data) == 3
    assert verify(str(tars)).classes == (("ant", "bee", "cat") if label == "txt" else ("0", "1", "2"))
    for split, paths in files.items():
        pixels, labels = read_by_webdataset(paths, image, label)
        numbers = {"cls": int, "txt": ["ant", "bee", "cat"].index, "json": lambda one: one["kind"]["id"]}[label]
        ours = content(data, split)
        assert torch.equal(ours[0], pixels)
        assert ours[1].tolist() == [numbers(one) for one in labels]


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Write two tar files of 16 images each without splits."""
    for number in range(2):
        samples = samples_of(range(16 * number, 16 * number + 16), cls=lambda number: number % 2)
        write_tar(tmp_path / "tars" / f"shard-{number}.tar", samples)
    return tmp_path / "tars"


def test_val_is_held_out_of_the_samples(tars: Path, shard_data: MakeData) -> None:
    index = index_tars(Indexing(str(tars), tars, val_fraction=0.25))
    assert {name: split.num_samples for name, split in index.splits.items()} == {"train": 24, "val": 8}
    data = shard_data(tars, image_size=24, mean=[0.0], std=[1.0])
    pixels, labels = read_by_webdataset([tars / "shard-0.tar", tars / "shard-1.tar"], "jpg", "cls")
    expected = sorted((one.numpy().tobytes(), label) for one, label in zip(pixels, labels, strict=True))
    found = [pair for split in ("train", "val") for pair in zip(*content(data, split), strict=True)]
    assert sorted((one.numpy().tobytes(), int(label)) for one, label in found) == expected
    assert content(data, "val")[1].tolist().count(0) == 4


def test_resume_and_ranks(tars: Path, shard_data: MakeData) -> None:
    index_tars(Indexing(str(tars), tars))
    check_resume_and_ranks(shard_data(tars, image_size=24), same_global_batch=False)


def test_files_of_tar_and_names_of_classes(tmp_path: Path, shard_data: MakeData) -> None:
    """Members as GNU tar writes them, with long names, folders, other files and upper case."""
    folder = tmp_path / "made" / ("long" * 40)
    folder.mkdir(parents=True)
    for number in range(8):
        (folder / f"{number}.JPG").write_bytes(picture(number))
        (folder / f"{number}.cls").write_text(f"{number % 2 + 5}\n")
        (folder / f"{number}.seg.npy").write_bytes(b"other")
    for form, name in ((tarfile.GNU_FORMAT, "gnu"), (tarfile.PAX_FORMAT, "pax")):
        with tarfile.open(tmp_path / f"{name}.tar", "w", format=form) as tar:
            tar.add(folder, arcname=folder.name)
    names = tuple("abcdefg")
    index = index_tars(Indexing(str(tmp_path), tmp_path, classes=names, val_fraction=0.5))
    assert index.classes == names
    assert sum(split.num_samples for split in index.splits.values()) == 16
    data = shard_data(tmp_path, image_size=24, mean=[0.0], std=[1.0])
    assert set(content(data, "train")[1].tolist()) == {5, 6}


@pytest.mark.slow
def test_a_file_above_four_gibibytes(tmp_path: Path, shard_data: MakeData) -> None:
    """The second half of the samples follows a hole of 4 GiB, which takes no space on the disk."""
    first, second = samples_of(range(4), cls=lambda n: n % 2), samples_of(range(4, 8), cls=lambda n: n % 2)
    for name, samples in (("first", first), ("second", second)):
        write_tar(tmp_path / "parts" / f"{name}.bin", samples)
    hole = tarfile.TarInfo("hole.bin")
    hole.size = 4 << 30
    with (tmp_path / "big.tar").open("wb") as file:
        end = (tmp_path / "parts" / "first.bin").read_bytes().rstrip(b"\0")
        file.write(end + bytes(-len(end) % 512))
        file.write(hole.tobuf(tarfile.GNU_FORMAT))
        file.seek(hole.size, 1)
        file.write((tmp_path / "parts" / "second.bin").read_bytes())
    index_tars(Indexing(str(tmp_path), tmp_path, val_fraction=0.25))
    assert np.load(tmp_path / "train.samples.npy").dtype == np.uint64
    data = shard_data(tmp_path, image_size=24, mean=[0.0], std=[1.0])
    found = {image.numpy().tobytes() for split in ("train", "val") for image in content(data, split)[0]}
    expected = [
        read_by_webdataset([tmp_path / "parts" / f"{name}.bin"], "jpg", "cls")[0] for name in ("first", "second")
    ]
    assert found == {image.numpy().tobytes() for images in expected for image in images}


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        ([{"__key__": "x", "jpg": b""}], {}, "label=null: sample x has none of .cls, .txt, .json"),
        ([{"__key__": "x", "jpg": b"", "json": {"a": 1, "b": 2}}], {}, "write label=json.FIELD; sample x has a, b"),
        (
            [{"__key__": "x", "jpg": b"", "json": {"a": 1}}],
            {"label": "json.aa"},
            "has no field aa in its .json; did you",
        ),
        ([{"__key__": "x", "jpg": b"", "cls": b"3"}], {}, "all samples have the class 3"),
        ([{"__key__": "x", "cls": b"3"}], {}, "0.tar, sample x has no image; correct it, or write skip=true"),
        (
            [{"__key__": "x", "jpg": b"", "png": b"", "cls": b"3"}],
            {},
            "has several images: write image= and one of jpg",
        ),
        ([{"__key__": "x", "jpg": b"", "cls": b"3"}], {"image": "png"}, "has no .png, but .jpg"),
        ([{"__key__": "x", "jpg": b"", "cls": b"3"}], {"label": "label"}, "has no .label"),
        ([{"__key__": "x", "jpg": b"", "txt": b""}], {}, "has the label '', which is neither a number nor a text"),
        ([{"__key__": "x", "jpg": b"", "cls": b"3"}], {"classes": ("a", "b")}, "neither one of the 2 names nor"),
        (
            [{"__key__": f"x{n}", "jpg": b"", "txt": f"a photo of {n}".encode()} for n in range(100)],
            {},
            "100 of 100 labels are different texts, such as 'a photo of 0'",
        ),
    ],
)
def test_fault_of_a_sample(
    tmp_path: Path, samples: list[dict[str, Any]], settings: dict[str, Any], message: str
) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for sample in samples:
            for name, value in sample.items():
                if name != "__key__":
                    content = json.dumps(value).encode() if name == "json" else value
                    member = tarfile.TarInfo(f"{sample['__key__']}.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match=message.replace(".", r"\.").replace("(", r"\(")):
        index_tars(Indexing(str(tmp_path), tmp_path, **settings))
    assert not (tmp_path / "index.json").exists()


def test_samples_are_skipped(tars: Path) -> None:
    write_tar(tars / "shard-2.tar", [{"__key__": "x", "jpg": picture(1)}, {"__key__": "y", "cls": 1}])
    index = index_tars(Indexing(str(tars), tars, skip=True))
    assert index.skipped == {"shard-2.tar, sample x": "has no .cls", "shard-2.tar, sample y": "has no image"}
    assert read_index(str(tars)) == index


def test_fault_of_a_file(tmp_path: Path, tars: Path, packed: Path, shard_data: MakeData) -> None:
    def fault(folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            index_tars(Indexing(str(folder), folder))
        return str(caught.value)

    assert "has no index.json; write it with convoy index tars=" in str(check_data(shard_data(tars))[0])
    assert "does not exist; give the folder of the tar files" in fault(tmp_path / "nowhere")
    (tmp_path / "gz").mkdir()
    assert "has no .tar files; give the folder" in fault(tmp_path / "gz")
    (tmp_path / "gz" / "0.tar.gz").write_bytes(b"\x1f\x8b")
    assert "has the compressed file 0.tar.gz; decompress it" in fault(tmp_path / "gz")
    shutil.copy(tars / "shard-0.tar", tmp_path / "gz" / "1.tar")
    assert "has the compressed file 0.tar.gz; decompress it" in fault(tmp_path / "gz"), "it is not left out"
    (tmp_path / "gz" / "1.tar").unlink()
    (tmp_path / "gz" / "0.tar.gz").rename(tmp_path / "gz" / "0.tar")
    assert "0.tar is compressed, so its images can't be read in random order; decompress it" in fault(tmp_path / "gz")
    assert "output=" in fault(packed)
    assert "has the index of shards that convoy pack wrote" in fault(packed)
    whole = (tars / "shard-0.tar").read_bytes()
    (tars / "shard-0.tar").write_bytes(whole[: len(whole) // 2])
    assert "shard-0.tar is not a complete tar file" in fault(tars)
    (tars / "shard-0.tar").rename(tars / "val-0.tar")
    (tars / "shard-1.tar").rename(tars / "val-1.tar")
    assert "all files are named after val, such as val-0.tar; add the files of train" in fault(tars)


def test_a_changed_file_is_reported(tars: Path, shard_data: MakeData) -> None:
    index_tars(Indexing(str(tars), tars))
    write_tar(tars / "shard-1.tar", samples_of(range(3), cls=lambda number: number))
    with pytest.raises(
        UserError, match=r"shard-1.tar has [\d,]+ bytes instead of .*repeat convoy pack or convoy index"
    ):
        open_data(shard_data(tars), 1)
    index_tars(Indexing(str(tars), tars))
    assert open_data(shard_data(tars), 1).sizes["train"] == 17


def test_files_in_a_store(s3: str, tars: Path, tmp_path: Path, shard_data: MakeData) -> None:
    boto3 = pytest.importorskip("boto3")
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="sets")
    for path in tars.iterdir():
        client.upload_file(str(path), "sets", f"birds/part/{path.name}")
    index_tars(Indexing("s3://sets/birds", tmp_path / "index"))
    for path in (tmp_path / "index").iterdir():
        client.upload_file(str(path), "sets", f"birds/{path.name}")
    index_tars(Indexing(str(tars), tars))
    for split in ("train", "val"):
        ours, theirs = (content(shard_data(root), split) for root in ("s3://sets/birds", tars))
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


@pytest.mark.slow
def test_index_and_train(convoy: Callable[..., Run], tars: Path) -> None:
    done = convoy("index", f"tars={tars}", "val_fraction=0.25", folder=None)
    assert done.code == 0, done.err
    assert "24 train, 8 val images of 2 classes" in done.out
    words = done.out.strip().splitlines()[-1].partition("convoy ")[2].split()
    words += ["data.image_size=24", "data.eval_resize=24", "model.layers=[POOL4,FC-2]", "trainer.max_steps=2"]
    words += ["trainer.global_batch_size=4", "logger=csv", "trainer.gpus=0", "hardware.cpu_threads=1"]
    assert convoy(*words).code == 0
