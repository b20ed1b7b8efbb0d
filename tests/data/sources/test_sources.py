"""Tests of the readers of sets in memory against scikit-learn and torchvision."""

from __future__ import annotations

import gzip
import pickle
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.images.resize import fit_images, with_channels
from convoy.data.sources.cifar import read_cifar10, read_cifar100
from convoy.data.sources.digits import read_digits
from convoy.data.sources.mnist import FASHION_MNIST, read_fashion_mnist, read_mnist

FASHION_FOLDER = FASHION_MNIST.system
needs_fashion_mnist = pytest.mark.skipif(
    FASHION_FOLDER is None or not FASHION_FOLDER.is_dir(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
RANDOM = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's downloads out of the tests."""
    monkeypatch.setenv("CONVOY_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def write_mnist(folder: Path, train: int = 50, test: int = 20) -> None:
    for name, size in (("train", train), ("t10k", test)):
        write_idx(folder / f"{name}-images-idx3-ubyte", RANDOM.integers(0, 256, (size, 28, 28)))
        write_idx(folder / f"{name}-labels-idx1-ubyte", RANDOM.integers(0, 10, size))


def write_cifar(folder: Path, hundred: bool) -> None:
    """Write files like the authors': protocol 2, arrays of rows of 3,072 bytes, red first."""
    folder.mkdir(parents=True)
    names = ["train", "test"] if hundred else [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    for name in names:
        batch = {"data": RANDOM.integers(0, 256, (30, 3072), dtype=np.uint8), "filenames": ["x.png"] * 30}
        batch["fine_labels" if hundred else "labels"] = RANDOM.integers(0, 100 if hundred else 10, 30).tolist()
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    key, count = ("fine_label_names", 100) if hundred else ("label_names", 10)
    meta = {key: [f"class {number}" for number in range(count)]}
    (folder / ("meta" if hundred else "batches.meta")).write_bytes(pickle.dumps(meta, protocol=2))


def message_of(caught: pytest.ExceptionInfo[UserError]) -> str:
    (fault,) = caught.value.faults
    assert fault.key == "data.root"
    return str(fault)


def test_digits_are_scikit_learns() -> None:
    bundled = load_digits()
    ours = read_digits(DataConfig())
    images = torch.cat([ours.train.images, ours.test.images])[:, 0]
    labels = torch.cat([ours.train.labels, ours.test.labels])
    assert len(images) == 1797
    # 0 .. 16 is spread evenly over 0 .. 255; the two splits together are the bundled set in another order.
    expected = {
        (int(label), np.rint(image * 255 / 16).astype(np.uint8).tobytes())
        for image, label in zip(bundled.images, bundled.target, strict=True)
    }
    assert {(int(label), image.numpy().tobytes()) for image, label in zip(images, labels, strict=True)} == expected


def test_digits_test_split_is_a_fifth_of_each_class_and_never_changes() -> None:
    first, second = read_digits(DataConfig()), read_digits(DataConfig())
    assert torch.equal(first.test.images, second.test.images)
    share = torch.bincount(first.test.labels) / torch.bincount(torch.cat([first.train.labels, first.test.labels]))
    assert float((share - 0.2).abs().max()) < 0.005
    # Committed to: another split would make results incomparable with earlier ones.
    assert first.test.labels[:20].tolist() == [0, 1, 6, 7, 8, 4, 8, 9, 5, 7, 0, 3, 3, 6, 4, 1, 2, 3, 4, 3]


@needs_fashion_mnist
def test_fashion_mnist_is_torchvisions(tmp_path: Path) -> None:
    assert FASHION_FOLDER is not None
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in FASHION_FOLDER.glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    from_package = read_fashion_mnist(DataConfig())
    from_root = read_fashion_mnist(DataConfig(root=str(tmp_path)))
    assert from_package.classes == tuple(datasets.FashionMNIST.classes)
    for split, train in (("train", True), ("test", False)):
        reference = datasets.FashionMNIST(str(tmp_path), train=train)
        for ours in (getattr(from_package, split), getattr(from_root, split)):
            assert torch.equal(ours.images[:, 0], reference.data)
            assert torch.equal(ours.labels, reference.targets)


@pytest.mark.parametrize("folder", ["MNIST/raw", ".", "raw"])
def test_mnist_is_torchvisions(tmp_path: Path, folder: str) -> None:
    write_mnist(tmp_path / folder)
    write_mnist(tmp_path / "reference" / "MNIST" / "raw")
    for path in (tmp_path / folder).glob("*-ubyte"):
        (tmp_path / "reference" / "MNIST" / "raw" / path.name).write_bytes(path.read_bytes())
    ours = read_mnist(DataConfig(root=str(tmp_path)))
    for split, train in ((ours.train, True), (ours.test, False)):
        reference = datasets.MNIST(str(tmp_path / "reference"), train=train)
        assert torch.equal(split.images[:, 0], reference.data)
        assert torch.equal(split.labels, reference.targets)


@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_is_torchvisions(tmp_path: Path, hundred: bool) -> None:
    folder = tmp_path / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    write_cifar(folder, hundred)
    read, reference_class = (read_cifar100, datasets.CIFAR100) if hundred else (read_cifar10, datasets.CIFAR10)
    ours = read(DataConfig(root=str(tmp_path)))
    with mock.patch("torchvision.datasets.cifar.check_integrity", return_value=True):
        for split, train in ((ours.train, True), (ours.test, False)):
            reference = reference_class(str(tmp_path), train=train)
            assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), reference.data)
            assert split.labels.tolist() == reference.targets
            assert list(ours.classes) == reference.classes
    # The folder itself may be given too.
    assert torch.equal(read(DataConfig(root=str(folder))).test.images, ours.test.images)


def test_error_of_a_missing_set_names_folders_and_remedy(tmp_path: Path, own_cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_mnist(DataConfig(root=str(tmp_path)))
    assert f"{tmp_path}/MNIST/raw" in message_of(caught)
    assert "t10k-labels-idx1-ubyte" in message_of(caught)
    assert "data.root=null" in message_of(caught)
    with pytest.raises(UserError) as caught:
        read_cifar10(DataConfig(download=False))
    assert str(own_cache / "cifar-10-batches-py") in message_of(caught)
    assert "data.download=true" in message_of(caught)


def test_download_is_torchvisions_into_the_cache(own_cache: Path) -> None:
    def fetched(root: str, download: bool) -> None:
        assert download
        write_mnist(Path(root) / "MNIST" / "raw")

    with mock.patch("torchvision.datasets.MNIST", side_effect=fetched) as torchvision:
        first = read_mnist(DataConfig())
        second = read_mnist(DataConfig())
    torchvision.assert_called_once_with(str(own_cache), download=True)
    assert torch.equal(first.train.images, second.train.images)


def test_processes_that_start_together_download_once(own_cache: Path) -> None:
    downloads = []

    def fetched(root: str, download: bool) -> None:  # noqa: ARG001 (torchvision's signature)
        folder = Path(root) / "MNIST" / "raw"
        write_mnist(folder)
        (folder / "t10k-labels-idx1-ubyte").unlink()
        # Another one looks while half of the files are there.
        started.set()
        assert not second.done()
        write_mnist(folder)
        downloads.append(folder)

    def read_when_started() -> int:
        assert started.wait(timeout=30)
        return len(read_mnist(DataConfig()).train)

    started = threading.Event()
    with mock.patch("torchvision.datasets.MNIST", side_effect=fetched), ThreadPoolExecutor(1) as pool:
        second = pool.submit(read_when_started)
        assert len(read_mnist(DataConfig()).train) == 50
        assert second.result(timeout=30) == 50
    assert downloads == [own_cache / "MNIST" / "raw"]


def test_half_a_download_is_resumed_and_a_full_cache_needs_no_writing(own_cache: Path) -> None:
    folder = own_cache / "MNIST" / "raw"
    write_mnist(folder)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with mock.patch("torchvision.datasets.MNIST", side_effect=lambda *_, **__: write_mnist(folder)) as torchvision:
        read_mnist(DataConfig())
    torchvision.assert_called_once()
    with mock.patch("pathlib.Path.mkdir", side_effect=PermissionError):
        assert len(read_mnist(DataConfig()).test) == 20


@pytest.mark.parametrize("error", [OSError("<urlopen error no such host>"), RuntimeError("Error downloading x")])
def test_error_of_a_failed_download_has_a_remedy(error: Exception) -> None:
    with (
        mock.patch("torchvision.datasets.CIFAR100", side_effect=error),
        pytest.raises(UserError, match="could not be downloaded") as caught,
    ):
        read_cifar100(DataConfig())
    assert str(error) in message_of(caught)
    assert "give it as data.root" in message_of(caught)


@pytest.mark.parametrize(
    ("name", "damage", "complaint"),
    [
        ("train-images-idx3-ubyte", lambda content: content[:-100], "bytes where 39,216 should be"),
        ("train-images-idx3-ubyte", lambda content: b"<html>404</html>" + content, "is not an idx file"),
        ("t10k-images-idx3-ubyte", lambda _: b"", "is not an idx file"),
        ("t10k-labels-idx1-ubyte", lambda content: content[:-1] + b"\x0b", "has a label 11, above 9"),
        ("t10k-labels-idx1-ubyte", lambda _: bytes([0, 0, 8, 1, 0, 0, 0, 1, 5]), "has 1 labels for 20 images"),
    ],
)
def test_damaged_idx_file(tmp_path: Path, name: str, damage: object, complaint: str) -> None:
    write_mnist(tmp_path)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError) as caught:
        read_mnist(DataConfig(root=str(tmp_path)))
    assert complaint in message_of(caught)
    assert str(tmp_path / name) in message_of(caught)
    assert "replace it" in message_of(caught)


@pytest.mark.parametrize("cut", [20, 1000])
def test_truncated_gzip_and_missing_file(tmp_path: Path, cut: int) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    whole = gzip.compress(path.read_bytes())
    path.unlink()
    with pytest.raises(UserError, match="lacks train-images-idx3-ubyte of MNIST"):
        read_mnist(DataConfig(root=str(tmp_path)))
    path.with_suffix(".gz").write_bytes(whole[:-cut])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz can't be read"):
        read_mnist(DataConfig(root=str(tmp_path)))


def test_a_broken_download_has_the_remedy_to_delete_it(own_cache: Path) -> None:
    write_mnist(own_cache / "MNIST" / "raw")
    (own_cache / "MNIST" / "raw" / "t10k-images-idx3-ubyte").write_bytes(b"\0\0")
    with pytest.raises(UserError, match="delete it to download it again"):
        read_mnist(DataConfig())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\x80\x02}q\x00(X", "can't be read"),
        (pickle.dumps([1, 2]), "contains no dictionary"),
        (pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [1, 2]}, protocol=2), "has no uint8 array data"),
        (
            pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, protocol=2),
            "has no list labels with a label for each of 2 images",
        ),
        (
            pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, protocol=2),
            "has labels outside 0 to 9",
        ),
    ],
)
def test_damaged_cifar_file(tmp_path: Path, content: bytes, complaint: str) -> None:
    write_cifar(tmp_path / "cifar-10-batches-py", hundred=False)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_cifar10(DataConfig(root=str(tmp_path)))
    assert f"{path} {complaint}" in message_of(caught)


def test_a_cifar_file_cannot_execute_code(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "executed",)  # type: ignore[return-value]

    write_cifar(tmp_path / "cifar-10-batches-py", hundred=False)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps({"data": Malicious()}))
    with pytest.raises(UserError, match="not a part of an array"):
        read_cifar10(DataConfig(root=str(tmp_path)))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(("side", "size"), [(8, 32), (28, 32), (32, 24), (28, 14)])
def test_resizing_is_pillows(side: int, size: int) -> None:
    images = torch.from_numpy(RANDOM.integers(0, 256, (20, 1, side, side), dtype=np.uint8))
    resized = fit_images(images, size, "resize")
    for image, ours in zip(images, resized, strict=True):
        pillow = np.asarray(Image.fromarray(image[0].numpy()).resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(pillow.astype(int) - ours[0].numpy().astype(int)).max() <= 1


def test_padding_centres_the_image_in_zeros() -> None:
    images = torch.from_numpy(RANDOM.integers(1, 256, (3, 1, 28, 28), dtype=np.uint8))
    padded = fit_images(images, 33, "pad")
    assert padded.shape == (3, 1, 33, 33)
    assert torch.equal(padded[:, :, 2:30, 2:30], images)
    assert int(padded.sum()) == int(images.sum())


def test_channels_are_pillows() -> None:
    images = torch.from_numpy(RANDOM.integers(0, 256, (10, 3, 16, 16), dtype=np.uint8))
    gray = with_channels(images, 1)
    for image, ours in zip(images, gray, strict=True):
        pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")
        assert np.array_equal(np.asarray(pillow), ours[0].numpy())
        colour = np.asarray(pillow.convert("RGB"))
        assert np.array_equal(with_channels(ours[None], 3)[0].permute(1, 2, 0).numpy(), colour)
