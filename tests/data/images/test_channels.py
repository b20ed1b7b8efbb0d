"""Images with many channels, of more than 8 bits or as arrays, compared with NumPy and torchvision."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import TINY, Run
from tests.data.loader_checks import check_resume_and_ranks
from torchvision.transforms import v2

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.check import check_data
from convoy.data.images.bad_images import BadImageError
from convoy.data.images.crop_geometry import CropBox
from convoy.data.images.decode import open_encoded, open_image
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.images.resize import crop_and_resize, resize_and_center
from convoy.data.listing.image_files import ImageFiles
from convoy.data.opening.file_splits import file_splits
from convoy.evaluation.trained_run import TrainedRun
from convoy.models.building.build import build_model

tifffile = pytest.importorskip("tifffile", reason="pip install 'convoy[tiff]'")

BANDS = np.random.default_rng(2).integers(0, 65536, (40, 60, 6)).astype(np.uint16)
BYTES = (BANDS >> 8).astype(np.uint8)

WRITERS: dict[str, Callable[[Path, NDArray[Any]], None]] = {
    "contiguous.tif": lambda path, bands: tifffile.imwrite(
        path, bands, photometric="minisblack", planarconfig="contig"
    ),
    "planes.tif": lambda path, bands: tifffile.imwrite(
        path, np.moveaxis(bands, 2, 0), photometric="minisblack", planarconfig="separate"
    ),
    "pages.tif": lambda path, bands: tifffile.imwrite(path, np.moveaxis(bands, 2, 0), photometric="minisblack"),
    "tiles.tif": lambda path, bands: tifffile.imwrite(
        path, bands, photometric="minisblack", planarconfig="contig", tile=(16, 16), compression="zlib"
    ),
    "big.tif": lambda path, bands: tifffile.imwrite(
        path, bands, photometric="minisblack", planarconfig="contig", bigtiff=True, byteorder=">"
    ),
    "array.npy": lambda path, bands: np.save(path, bands),
}


def read(path: Path, form: PixelFormat) -> NDArray[np.uint8]:
    image = open_image(str(path), form)
    pixels = image.pixels(image.height, 1)
    encoded = open_encoded("x", bytearray(path.read_bytes()), form)
    assert np.array_equal(encoded.pixels(encoded.height, 1), pixels)
    return pixels


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        (BYTES, BYTES),
        (BANDS, np.rint(BANDS / 257)),
        ((BANDS / 65535).astype(np.float32), np.rint(BANDS / 257)),
        (BANDS.astype(np.int32), np.rint(BANDS / 257)),
    ],
    ids=["8 bits", "16 bits", "floating-point", "32 bits"],
)
def test_bands_are_scaled_by_the_range_of_their_type(
    name: str, bands: NDArray[Any], expected: NDArray[Any], tmp_path: Path
) -> None:
    WRITERS[name](tmp_path / name, bands)
    pixels = read(tmp_path / name, PixelFormat(6))
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, expected)


def test_a_range_replaces_that_of_the_type(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", BANDS)
    expected = np.rint(np.clip((BANDS.astype(float) - 1000) / 9000, 0, 1) * 255)
    assert np.array_equal(read(tmp_path / "a.npy", PixelFormat(6, value_range=(1000.0, 10000.0))), expected)
    Image.fromarray(BANDS[..., 0]).save(tmp_path / "gray.tif")
    assert np.array_equal(
        read(tmp_path / "gray.tif", PixelFormat(1, value_range=(1000.0, 10000.0)))[..., 0], expected[..., 0]
    )
    signed = BANDS.astype(np.int32) - 30000
    np.save(tmp_path / "signed.npy", signed)
    with pytest.raises(BadImageError, match=r"must be in 0..65535, unless data.value_range is set"):
        read(tmp_path / "signed.npy", PixelFormat(6))
    pixels = read(tmp_path / "signed.npy", PixelFormat(6, value_range=(-30000.0, 35535.0)))
    assert np.array_equal(pixels, np.rint(BANDS / 257))


def test_arrays_of_gray_and_rgb_are_converted_as_other_files(tmp_path: Path) -> None:
    np.save(tmp_path / "gray.npy", BYTES[..., 0])
    np.save(tmp_path / "rgb.npy", BYTES[..., :3])
    assert np.array_equal(read(tmp_path / "gray.npy", PixelFormat(1))[..., 0], BYTES[..., 0])
    assert np.array_equal(read(tmp_path / "gray.npy", PixelFormat(3)), BYTES[..., :1].repeat(3, 2))
    assert np.array_equal(read(tmp_path / "rgb.npy", PixelFormat(3)), BYTES[..., :3])
    gray = np.asarray(Image.fromarray(BYTES[..., :3]).convert("L"))
    assert np.array_equal(read(tmp_path / "rgb.npy", PixelFormat(1))[..., 0], gray)


def encoded(save: Callable[[BytesIO], object]) -> bytes:
    buffer = BytesIO()
    save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "channels", "reason"),
    [
        (encoded(lambda to: np.save(to, BYTES)), 5, "has 6 channels, and data.channels is 5"),
        (encoded(lambda to: np.save(to, BYTES)), 3, "has 6 channels, and data.channels is 3"),
        (encoded(lambda to: np.save(to, BYTES[None])), 6, r"has the shape \[1, 40, 60, 6\] instead of"),
        (encoded(lambda to: np.save(to, BYTES.astype(complex))), 6, "has values of type complex128"),
        (encoded(lambda to: np.save(to, np.array([{}]), allow_pickle=True)), 6, "allow_pickle=False"),
        (encoded(lambda to: np.save(to, BYTES))[:500], 6, "."),
        (encoded(lambda to: Image.fromarray(BYTES[..., :3]).save(to, "JPEG")), 6, "is neither TIFF nor .npy"),
        (encoded(lambda to: Image.fromarray(BYTES[..., :4]).save(to, "PNG")), 4, "is neither TIFF nor .npy"),
        (encoded(lambda to: np.save(to, np.full((4, 4, 2), np.nan))), 2, "has values from nan to nan"),
        (b"II*\0garbage", 6, "."),
    ],
)
def test_a_file_that_does_not_fit_is_an_error(content: bytes, channels: int, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=reason):
        open_image(str(path), PixelFormat(channels)).pixels(1, 1)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs is installed, which reads the file")
def test_a_compression_that_needs_a_package_is_named(tmp_path: Path) -> None:
    Image.fromarray(BYTES[..., :4]).save(tmp_path / "a.tif", compression="tiff_lzw")
    with pytest.raises(UserError, match=r"data.channels: a TIFF file has a compression .* pip install imagecodecs"):
        open_image(str(tmp_path / "a.tif"), PixelFormat(4))


def test_crops_of_many_channels_equal_torchvisions(tmp_path: Path) -> None:
    smooth = np.stack([np.asarray(Image.fromarray(BYTES[..., band]).resize((90, 70))) for band in range(6)], 2)
    np.save(tmp_path / "a.npy", smooth)
    image = open_image(str(tmp_path / "a.npy"), PixelFormat(6))
    tensor = torch.from_numpy(smooth).permute(2, 0, 1)
    ours = np.empty((24, 40, 6), dtype=np.uint8)
    crop_and_resize(image, CropBox(7, 5, 70, 50), ours, mirrored=True)
    expected = v2.functional.horizontal_flip(v2.functional.resized_crop(tensor, 5, 7, 50, 70, [24, 40]))
    assert np.abs(ours.astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 1
    resize_and_center(image, 24, ours)
    expected = v2.functional.center_crop(v2.functional.resize(tensor, [31, 40]), [24, 40])
    assert np.abs(ours.astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 1


def bands_folder(root: Path) -> Path:
    """Write 40 images of 5 channels in two classes, which differ in the last channel, as TIFF and .npy."""
    generator = np.random.default_rng(3)
    for index in range(40):
        label = index % 2
        folder = root / ("train" if index < 28 else "val") / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        bands = generator.integers(0, 3000, (30, 40, 5)).astype(np.uint16)
        bands[..., 4] += 5000 * label
        name = folder / f"{index}"
        if index % 3:
            tifffile.imwrite(f"{name}.tif", bands, photometric="minisblack", planarconfig="contig")
        else:
            np.save(f"{name}.npy", bands)
    return root


def config(root: Path, **changes: Any) -> DataConfig:
    settings: dict[str, Any] = {"name": "bands", "source": "image_folder", "root": str(root), "channels": 5}
    settings |= {"image_size": 24, "mean": [0.5], "std": [0.25], "value_range": [0, 10000], "num_workers": 2}
    return DataConfig(**settings | changes)


def test_resume_and_ranks(tmp_path: Path) -> None:
    check_resume_and_ranks(config(bands_folder(tmp_path / "set")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 0}, "data.channels=0: must be 1 (gray), 3 (RGB) or another number up to 1024"),
        ({"mean": [0.1, 0.2, 0.3]}, "data.mean=[0.1,0.2,0.3]: must have one number, or one per channel"),
        ({"std": [0.1] * 6}, "must have one number, or one per channel; data.channels is 5"),
        ({"value_range": [5, 5]}, "data.value_range=[5,5]: must be [smallest, largest] with smallest < largest"),
        ({"source": "digits"}, "bands has images of 1 (gray) or 3 (RGB) channels"),
        ({"augment": AugmentConfig(grayscale=0.5)}, "data.augment.grayscale=0.5: changes colors of gray or RGB images"),
        ({"augment": AugmentConfig(trivial_augment=True)}, "write data.augment.trivial_augment=false"),
        ({"augment": AugmentConfig(rand_augment=[2, 9])}, "write data.augment.rand_augment=null"),
        ({"augment": AugmentConfig(color_jitter=[0.1, 0.1, 0.1, 0.1])}, "data.augment.color_jitter=[0.1,0.1,0.1,0.1]"),
        ({"augment": AugmentConfig(pca_lighting=0.1)}, "data.augment.pca_lighting=0.1: changes colors"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    faults = [str(fault) for fault in check_data(config(tmp_path, num_classes=2, **changes), present=False)]
    assert any(message in fault for fault in faults), faults


def test_geometry_and_blur_are_allowed(tmp_path: Path) -> None:
    augment = AugmentConfig(
        random_resized_crop=[0.5, 1.0], flip=True, rotation=10, perspective=0.5, blur=0.5, erasing=0.5, cutout=4
    )
    data = config(bands_folder(tmp_path / "set"), augment=augment)
    assert check_data(data) == []
    check_resume_and_ranks(data)


@pytest.mark.parametrize(
    "model",
    [
        {"_target_": "convoy.models.libraries.torchvision_model", "name": "resnet18"},
        {"_target_": "convoy.models.libraries.timm_model", "name": "resnet18"},
        {"_target_": "convoy.models.chain.Chain", "layers": ["CONV3-8", "GAP", "FC-{num_classes}"]},
    ],
    ids=["torchvision", "timm", "chain"],
)
def test_the_first_layer_takes_the_channels(model: dict[str, Any]) -> None:
    network = build_model(model, num_classes=4, in_channels=7, image_size=(32, 48)).eval()
    assert network(torch.zeros(2, 7, 32, 48)).shape == (2, 4)


def test_a_run_learns_from_a_channel_beyond_rgb(convoy: Callable[..., Run], tmp_path: Path) -> None:
    bands_folder(tmp_path / "set")
    words = ("data=set", "data.channels=5", "data.value_range=[0,10000]", "data.mean=[0.2]", "data.std=[0.2]")
    layers = "model.layers=[CONV3-4,GAP,FC-2]"
    done = convoy(
        "train", *TINY, layers, *words, "data.image_size=[24,32]", "trainer.max_epochs=3", "optimizer.lr=0.03",
        "trainer.global_batch_size=7",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "5x24x32" in done.out + done.err
    assert done.summary()["val/top1"] == 1.0
    assert convoy("filters", "run=run", folder=None).code == 0
    assert convoy("export", "run=run", "format=safetensors", folder=None).code == 0
    paths = sorted(str(path) for path in (tmp_path / "set" / "val").rglob("*.*"))
    for source in ("run=run", "checkpoint=run/export/best.safetensors"):
        done = convoy("predict", source, *paths, "format=jsonl", "top=1", folder=None)
        assert done.code == 0, done.err
        rows = [json.loads(line) for line in done.out.splitlines()]
        assert [Path(row["image"]).parent.name for row in rows] == [row["classes"][0]["class"] for row in rows]
        assert len(rows) == len(paths)
    assert convoy("data", "data=set", *words[1:], folder=None).code == 0
    assert TrainedRun.open("run").facts.preparation.shape == (5, 24, 32)
    done = convoy("pack", "data=image_folder", "data.root=set", "data.channels=5", "output=packed", folder=None)
    assert done.code == 2
    assert "data.channels=5: only gray and RGB images can be packed" in done.err


def test_arrays_in_a_folder_are_listed(tmp_path: Path) -> None:
    files: ImageFiles = file_splits(config(bands_folder(tmp_path / "set"))).splits["train"]
    assert {Path(path).suffix for path in files.paths} == {".npy", ".tif"}
