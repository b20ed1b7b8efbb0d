"""Tests of convoy pack against the WebDataset library, tar and the images."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.shards.conftest import PackFolder

from convoy.config.faults import UserError
from convoy.data.shards.shard_index import read_index
from convoy.data.shards.verify import verify


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def photo(seed: int, width: int, height: int) -> Image.Image:
    """Return a smooth image with all frequencies."""
    noise = np.random.default_rng(seed).integers(0, 256, (max(2, height // 40), max(2, width // 40), 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def test_webdataset_reads_the_same_images_and_labels(packed: Path, digits_folder: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    index = read_index(str(packed))
    for name in ("train", "val"):
        shards = index.splits[name].shards
        assert len(shards) > 2
        urls = [str(packed / shard.file) for shard in shards]
        samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("pil"))
        found = Counter((index.classes[sample["cls"]], np.asarray(sample["jpg"]).tobytes()) for sample in samples)
        files = (digits_folder / name).rglob("*.jpg")
        assert found == Counter((path.parent.name, np.asarray(Image.open(path)).tobytes()) for path in files)
        keys = [sample["__key__"] for sample in samples]
        assert keys == [f"{number:08}" for number in range(len(keys))]
        # Mixed: not class after class.
        labels = [sample["cls"] for sample in samples]
        assert len(set(labels[:8])) > 1


def test_the_table_has_the_offset_of_each_image(packed: Path) -> None:
    split = read_index(str(packed)).splits["train"]
    rows = iter(np.load(packed / split.table).tolist())
    for shard in split.shards:
        content = (packed / shard.file).read_bytes()
        assert len(content) == shard.num_bytes <= 20_000
        assert hashlib.sha256(content).hexdigest() == shard.sha256
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            members = tar.getmembers()
        assert len(members) == 2 * shard.num_samples
        for image, label in zip(members[::2], members[1::2], strict=True):
            offset, length, number, _ = next(rows)
            assert (image.offset_data, image.size) == (offset, length)
            assert content[label.offset_data : label.offset_data + label.size] == str(number).encode()
            assert (image.mtime, image.uid, image.uname) == (0, 0, "")
    assert next(rows, None) is None


def test_large_images_are_resized_and_small_jpegs_copied(tmp_path: Path, pack_folder: PackFolder) -> None:
    folder = tmp_path / "images" / "train"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    large, wide, small, gray = photo(0, 400, 320), photo(1, 300, 64), photo(2, 48, 40), photo(3, 200, 160).convert("L")
    large.save(folder / "a" / "large.png")
    small.save(folder / "a" / "small.png")
    wide.save(folder / "b" / "wide.jpg", quality=80)
    gray.save(folder / "b" / "gray.png")
    for name in ("a", "b"):
        (tmp_path / "images" / "val" / name).mkdir(parents=True)
        photo(4, 80, 80).save(tmp_path / "images" / "val" / name / "1.jpg")
    pack_folder(tmp_path / "images", tmp_path / "packed", size=64, shard_bytes=1 << 20)
    with tarfile.open(tmp_path / "packed" / "train-000000.tar") as tar:
        files = [tar.extractfile(member).read() for member in tar.getmembers() if member.name.endswith(".jpg")]  # type: ignore[union-attr]
    images = {opened.size: opened for opened in (Image.open(io.BytesIO(file)) for file in files)}
    assert set(images) == {(80, 64), (300, 64), (48, 40)}
    assert (folder / "b" / "wide.jpg").read_bytes() in files
    modes = Counter(Image.open(io.BytesIO(file)).mode for file in files)
    assert modes == {"RGB": 3, "L": 1}
    for file in files:
        opened = Image.open(io.BytesIO(file))
        source = {(48, 40): small, (300, 64): wide}.get(opened.size, gray if opened.mode == "L" else large)
        expected = source.resize(opened.size, Image.Resampling.BILINEAR)
        error = np.abs(np.asarray(opened, dtype=float) - np.asarray(expected, dtype=float))
        assert error.mean() < 4, opened.size


def test_raw_stores_the_center_as_pixels(tmp_path: Path, digits_folder: Path, pack_folder: PackFolder) -> None:
    index = pack_folder(digits_folder, tmp_path / "raw", format="raw", size=20)
    (first, *_) = index.splits["val"].shards
    pixels = np.fromfile(tmp_path / "raw" / first.file, dtype=np.uint8).reshape(-1, 20, 20, 3)
    assert len(pixels) == first.num_samples
    expected = []
    for path in (digits_folder / "val").rglob("*.jpg"):
        image = Image.open(path)
        width, height = image.size
        scale = 20 / min(width, height)
        resized = image.resize((max(20, int(width * scale)), max(20, int(height * scale))), Image.Resampling.BILINEAR)
        left, top = round((resized.width - 20) / 2), round((resized.height - 20) / 2)
        expected.append(np.asarray(resized.crop((left, top, left + 20, top + 20)), dtype=int))
    for image in pixels.astype(int):
        assert min(np.abs(image - other).max() for other in expected) <= 1


KILLED = """
import os, signal, sys
from pathlib import Path
from convoy.data.listing.folders import list_images
from convoy.data.shards.packing import Packing, pack

root, output, most = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
classes = ("one", "two", "zero")
splits = {name: list_images(root / name, classes) for name in ("train", "val")}
written = []

def report(what, shard):
    written.append(what)
    print(what, shard.file, flush=True)
    if len(written) == most:
        # In the middle of the next shard: its first bytes are on the disk under another name.
        (output / "train-000002.tar.partial").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

pack(Packing(classes, splits, output, shard_bytes=20_000, num_threads=2), report)
"""


@pytest.mark.slow
def test_a_killed_packing_resumes_with_the_same_result(packed: Path, digits_folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"

    def run(most: int) -> tuple[int, list[str]]:
        words = [sys.executable, "-c", KILLED, str(digits_folder), str(again), str(most)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.split("\n")[:-1]

    assert run(2) == (-signal.SIGKILL, ["written train-000000.tar", "written train-000001.tar"])
    assert not (again / "index.json").exists()
    # What the disk lost of a recorded shard is written again, what it kept is not.
    os.truncate(again / "train-000000.tar", 999)
    code, lines = run(0)
    assert code == 0
    assert lines[:3] == ["written train-000000.tar", "kept train-000001.tar", "written train-000002.tar"]
    assert digests(again) == digests(packed)


@pytest.mark.slow
def test_a_process_killed_at_any_moment(packed: Path, digits_folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    words = [sys.executable, "-c", KILLED, str(digits_folder), str(again), "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    subprocess.run(words, check=True, capture_output=True)
    assert digests(again) == digests(packed)


def test_a_finished_set_has_its_damaged_shards_rewritten(
    packed: Path, digits_folder: Path, pack_folder: PackFolder
) -> None:
    before = digests(packed)
    assert len(verify(str(packed)).splits) == 2
    shard = packed / "train-000001.tar"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    (packed / "val-000000.tar").unlink()
    with pytest.raises(UserError) as caught:
        verify(str(packed))
    assert [fault.rule for fault in caught.value.faults] == [
        "train-000001.tar is damaged (its checksum differs)",
        "val-000000.tar is missing",
    ]
    assert all("repeat convoy pack" in fault.remedy for fault in caught.value.faults)
    pack_folder(digits_folder, packed)
    assert digests(packed) == before


def test_another_set_or_other_settings_are_not_written_over(
    packed: Path, digits_folder: Path, tmp_path: Path, pack_folder: PackFolder
) -> None:
    before = digests(packed)
    with pytest.raises(UserError, match=r"packed with other settings \(size\)"):
        pack_folder(digits_folder, packed, size=20)
    (digits_folder / "train" / "zero" / "000.jpg").unlink()
    with pytest.raises(UserError, match=r"packed with other settings \(the images\)"):
        pack_folder(digits_folder, packed)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty"):
        pack_folder(digits_folder, tmp_path / "mine")
    assert digests(packed) == before


def test_bad_images_stop_the_packing_or_are_skipped(
    digits_folder: Path, tmp_path: Path, pack_folder: PackFolder
) -> None:
    bad = digits_folder / "train" / "one" / "003.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-300])
    with pytest.raises(UserError, match=r"003.jpg can't be decoded \(.*truncated") as caught:
        pack_folder(digits_folder, tmp_path / "strict")
    assert "data.on_bad_image=skip" in caught.value.faults[0].remedy
    index = pack_folder(digits_folder, tmp_path / "lenient", skip=True)
    assert list(index.skipped) == [str(bad)]
    assert index.splits["train"].num_samples == 59
    assert json.loads((tmp_path / "lenient" / "index.json").read_text())["skipped"].keys() == {str(bad)}
    # Mended, the strict one goes on.
    bad.write_bytes(whole)
    assert pack_folder(digits_folder, tmp_path / "strict").splits["train"].num_samples == 60
