"""Damaged, odd and hostile image files and folders: each one trains, or ends in one error with file and remedy.

Each case changes a folder of good images and trains on it in a separate process, once with data.on_bad_image=error and
once with skip. `SELECTION` is part of the fast tests; `pytest -m faults tests/data` runs all cases.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin
from tests.faults.runs import Tally

TIMEOUT_S = 100
BASE = np.random.default_rng(7).integers(0, 256, (32, 32, 3), dtype=np.uint8)
PHOTO = Image.fromarray(BASE)


@dataclass(frozen=True)
class Case:
    """Change of a folder, and the end of a training on it.

    Attributes:
        make: changes the folder, given its class folder train/a.
        error: pattern in the only error with on_bad_image=error; None: it trains.
        skip: the same with on_bad_image=skip.
        says: pattern in the output of a training.
    """

    make: Callable[[Path], Any]
    error: str | None = None
    skip: str | None = None
    says: str = ""


def encoded(form: str, image: Image.Image = PHOTO, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, pixels: bytes = b"\0" * 1000) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    )


def file(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def bad(name: str, content: bytes, reason: str) -> Case:
    """Return the case of a file that can't be decoded."""
    return Case(
        file(name, content), rf"{re.escape(name)} can't be decoded \({reason}", says=r"skipped|can't be decoded"
    )


def good(name: str, content: bytes) -> Case:
    return Case(file(name, content))


def odd(name: str, image: Image.Image, **options: Any) -> Case:
    """Return the case of an image that Pillow writes, and that trains."""
    return Case(lambda folder: image.save(folder / name, **options))


def special(make: Callable[[str], Any], reason: str) -> Case:
    rule = rf"f\.jpg can't be decoded \(is a {reason}\)"
    return Case(lambda folder: make(str(folder / "f.jpg")), rule, says="f.jpg")


def bind(path: str) -> None:
    # The address of a socket has at most 107 bytes.
    before = Path.cwd()
    os.chdir(Path(path).parent)
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(Path(path).name)
    os.chdir(before)


def gray(dtype: type, factor: float, start: float = 0) -> Image.Image:
    return Image.fromarray((np.linspace(start, 1, 1024).reshape(32, 32) * factor).astype(dtype))


def tiff_loop(_: object = None) -> bytes:
    """Return a TIFF whose only directory is its own successor."""
    content = bytearray(encoded("TIFF"))
    (start,) = struct.unpack("<I", content[4:8])
    (number,) = struct.unpack("<H", content[start : start + 2])
    content[start + 2 + 12 * number : start + 6 + 12 * number] = struct.pack("<I", start)
    return bytes(content)


def folder_of_images(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    PHOTO.save(folder / name / "x.jpg")


def link_tree(folder: Path) -> None:
    """Make 30 folders, each with two links to the next one: a billion paths to one image."""
    for level in range(30):
        (folder / f"d{level}").mkdir()
    PHOTO.save(folder / "d29" / "x.jpg")
    for level in range(29):
        for name in ("left", "right"):
            (folder / f"d{level}" / name).symlink_to(folder / f"d{level + 1}")


def large_file(folder: Path) -> None:
    with (folder / "f.jpg").open("wb") as opened:
        opened.truncate(1 << 33)


def deep(folder: Path) -> None:
    for _ in range(60):
        folder = folder / "deeper"
    folder.mkdir(parents=True)
    PHOTO.save(folder / "x.jpg")


def damage_all(split: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for path in (folder.parents[1] / split).rglob("*.jpg"):
            path.write_bytes(b"damaged")

    return make


def rename_class(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for split in ("train", "val"):
            (folder.parents[1] / split / "a").rename(folder.parents[1] / split / name)

    return make


def replace_train(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder.parents[1] / "train").rename(folder.parents[1] / "elsewhere")
        make(folder.parents[1] / "train")

    return change


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


JPEG, PNG, GIF = encoded("JPEG"), encoded("PNG"), encoded("GIF")
EXIF = Image.Exif()
EXIF[ExifTags.Base.Orientation] = 99
TEXT = PngImagePlugin.PngInfo()
TEXT.add_text("comment", "x" * 20_000_000, zip=True)
NOT_UTF8 = os.fsdecode(b"\xff\xfe.jpg")
NOT_UTF8_CLASS = "class name that is not UTF-8"
UNKNOWN = "cannot identify"
A_PATTERN = "can't be decoded"

CASES = {
    "empty": bad("f.jpg", b"", UNKNOWN),
    "text": bad("f.jpg", b"not an image", UNKNOWN),
    "web page": bad("f.png", b"<!DOCTYPE html><html><body>404</body></html>", UNKNOWN),
    "archive": bad("f.jpg", b"PK\x03\x04" + b"\0" * 500, UNKNOWN),
    "random bytes": bad("f.jpg", BASE.tobytes(), UNKNOWN),
    "zeros": bad("f.png", b"\0" * 10_000, UNKNOWN),
    "large file of zeros": Case(large_file, r"f\.jpg can't be decoded", says="f.jpg"),
    "PostScript, which Pillow gives to a program": bad(
        "f.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", UNKNOWN
    ),
    "PDF": bad("f.jpg", b"%PDF-1.4\n" + b"x" * 300, UNKNOWN),
    "vector image": bad("f.png", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", UNKNOWN),
    "JPEG of two bytes": bad("f.jpg", JPEG[:2], UNKNOWN),
    "JPEG header": bad("f.jpg", JPEG[:100], ""),
    "JPEG cut in half": bad("f.jpg", JPEG[: len(JPEG) // 2], "Truncated|image file is truncated"),
    "JPEG without its last two bytes": good("f.jpg", JPEG[:-2]),
    "JPEG with zeros inside": good("f.jpg", JPEG[:700] + b"\0" * 50 + JPEG[750:]),
    "JPEG of height 0": bad("f.jpg", JPEG.replace(b"\x08\x00\x20\x00\x20", b"\x08\x00\x00\x00\x20"), ""),
    "JPEG of 4 gigapixels": bad("f.jpg", JPEG.replace(b"\x08\x00\x20\x00\x20", b"\x08\xff\xff\xff\xff"), "Image size"),
    "JPEG with bytes after its end": good("f.jpg", JPEG + b"tail" * 100),
    "JPEG with damaged metadata": good("f.jpg", encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40)),
    "JPEG with an unknown orientation": good("f.jpg", encoded("JPEG", exif=EXIF.tobytes())),
    "JPEG with a damaged color profile": good("f.jpg", encoded("JPEG", icc_profile=b"\xff" * 1000)),
    "PNG cut in half": bad("f.png", PNG[: len(PNG) // 2], ""),
    "PNG with a wrong checksum": bad("f.png", PNG[:60] + b"\0\0\0\0" + PNG[64:], ""),
    "PNG without pixels": bad("f.png", PNG[:33] + chunk(b"IEND", b""), ""),
    "PNG of 0 pixels": bad("f.png", png(0, 0), ""),
    "PNG of 400 megapixels": bad("f.png", png(20_000, 20_000), "Image size"),
    "PNG of 2^62 pixels": bad("f.png", png(2**31 - 1, 2**31 - 1), "Image size"),
    "PNG with fewer pixels than stated": bad("f.png", png(500, 500), ""),
    "PNG with a large compressed text": bad("f.png", encoded("PNG", pnginfo=TEXT), ""),
    "GIF cut short": bad("f.gif", GIF[: len(GIF) // 2], ""),
    "GIF whose frame is larger than the image": good("f.gif", GIF[:6] + b"\0\0\0\0" + GIF[10:]),
    "BMP cut short": bad("f.bmp", encoded("BMP")[:200], ""),
    "BMP of 2^31 rows": bad("f.bmp", encoded("BMP")[:22] + struct.pack("<i", -(2**31)) + encoded("BMP")[26:], ""),
    "TIFF cut short": bad("f.tif", encoded("TIFF")[:200], ""),
    "TIFF whose directory follows itself": good("f.tif", tiff_loop()),
    "TIFF without directory": bad("f.tif", b"II*\0\xff\xff\xff\x7f" + b"\0" * 100, ""),
    "WebP cut short": bad("f.webp", encoded("WEBP")[:100], ""),
    "JPEG 2000 cut short": bad("f.jp2", encoded("JPEG2000")[:150], ""),
    "PPM of many pixels and no data": bad("f.ppm", b"P6 9000 9000 255\n", ""),
    "PPM with a negative size": bad("f.ppm", b"P6 -5 5 255\n" + b"\0" * 100, ""),
    "PGM with a largest value of 0": bad("f.pgm", b"P5 5 5 0\n" + b"\0" * 100, ""),
    "PBM with letters": bad("f.pbm", b"P1 5 5 abcdefgh", ""),
    "16-bit PNG": odd("f.png", gray(np.uint16, 65535)),
    "16-bit TIFF": odd("f.tif", gray(np.uint16, 65535)),
    "16-bit PGM": odd("f.pgm", gray(np.uint16, 65535)),
    "32-bit TIFF in 16 bits": odd("f.tif", gray(np.int32, 65535)),
    "32-bit TIFF": Case(
        lambda folder: gray(np.int32, 2e9).save(folder / "f.tif"), r"f\.tif .*must be in 0\.\.65535", says="f.tif"
    ),
    "float TIFF": odd("f.tif", gray(np.float32, 1)),
    "float TIFF up to 255": Case(
        lambda folder: gray(np.float32, 255).save(folder / "f.tif"), r"f\.tif .*must be in 0\.\.1", says="f.tif"
    ),
    "float TIFF with NaN": Case(
        lambda folder: gray(np.float32, np.nan).save(folder / "f.tif"), r"f\.tif .*nan", says="f.tif"
    ),
    "CMYK JPEG": odd("f.jpg", PHOTO.convert("CMYK")),
    "transparent PNG": odd("f.png", PHOTO.convert("RGBA")),
    "palette PNG with transparency": odd("f.png", PHOTO.convert("P"), transparency=3),
    "gray PNG with transparency": odd("f.png", PHOTO.convert("LA")),
    "1-bit PNG": odd("f.png", PHOTO.convert("1")),
    "Lab TIFF": odd("f.tif", PHOTO.convert("LAB")),
    "animated GIF": odd("f.gif", PHOTO.convert("P"), save_all=True, append_images=[PHOTO.convert("P")]),
    "animated PNG": odd("f.png", PHOTO, save_all=True, append_images=[PHOTO.rotate(90)]),
    "TIFF of several pages": odd("f.tif", PHOTO, save_all=True, append_images=[PHOTO.rotate(90)]),
    "one pixel": odd("f.png", PHOTO.resize((1, 1))),
    "one row": odd("f.png", PHOTO.resize((30_000, 1))),
    "one column": odd("f.jpg", PHOTO.resize((1, 30_000))),
    "PNG named .jpg": good("f.jpg", PNG),
    "JPEG named .png": good("f.png", JPEG),
    "named pipe": special(os.mkfifo, "named pipe"),
    "socket": special(bind, "socket"),
    "link to a device": special(lambda path: Path(path).symlink_to("/dev/zero"), "device"),
    "link to nothing": Case(
        lambda folder: (folder / "f.jpg").symlink_to("nowhere"), r"f\.jpg can't be decoded \(no such file", says="f.jpg"
    ),
    "link to itself": Case(
        lambda folder: (folder / "f.jpg").symlink_to("f.jpg"), r"f\.jpg can't be decoded \(too many", says="f.jpg"
    ),
    "folder named like an image": Case(
        lambda folder: folder_of_images(folder, "d.jpg"), says=r"train/a/d\.jpg is a folder"
    ),
    "empty folder named like an image": Case(
        lambda folder: (folder / "d.jpg").mkdir(), says=r"train/a/d\.jpg is a folder"
    ),
    "link to its own class": Case(lambda folder: (folder / "loop").symlink_to(folder), says="train/a/loop links to"),
    "link to its split": Case(lambda folder: (folder / "up").symlink_to(folder.parent), says="train/a/up links to"),
    "link to the root of the file system": Case(
        lambda folder: (folder / "up").symlink_to("/"), says="train/a/up links to"
    ),
    "a billion paths to one image": Case(link_tree, says="links to a folder"),
    "60 nested folders": Case(deep),
    "name with a line break": good("f\n.jpg", JPEG),
    "name with emoji": good("🙂.jpg", JPEG),
    "name that is not UTF-8": good(NOT_UTF8, JPEG),
    "damaged file with a line break in its name": Case(
        file("f\n.jpg", b""), r"f\\n\.jpg can't be decoded", says=".jpg"
    ),
    "damaged file with a name that is not UTF-8": Case(file(NOT_UTF8, b""), r"\.jpg can't be decoded", says="jpg"),
    "damaged file with markup in its name": Case(
        file("[red]f[bold].jpg", b""), r"\[red\]f\[bold\]\.jpg can't be decoded", says=r"\[red\]f\[bold\]\.jpg"
    ),
    "name of 255 bytes": good("f" * 251 + ".jpg", JPEG),
    "name that begins with a dash": good("--help.jpg", JPEG),
    "files of other programs": Case(
        lambda folder: [
            (folder / name).write_bytes(b"x") for name in (".DS_Store", "._f.jpg", "Thumbs.db", "labels.txt")
        ]
    ),
    "hidden folder": Case(lambda folder: folder_of_images(folder.parent, ".ipynb_checkpoints")),
    "empty class": Case(
        empty, r"train/a has no images; remove the folder", r"train/a has no images; remove the folder"
    ),
    "class without images": Case(
        lambda folder: [empty(folder), (folder / "x.txt").touch()], r"train/a has no images", r"train/a has no images"
    ),
    "named pipe beside the classes": Case(lambda folder: os.mkfifo(folder.parent / "c")),
    "class that is a link": Case(lambda folder: (folder.parent / "c").symlink_to(folder)),
    "class that is a link to nothing": Case(lambda folder: (folder.parent / "c").symlink_to("nowhere")),
    NOT_UTF8_CLASS: Case(rename_class(os.fsdecode(b"\xff\xfe"))),
    "class name with a line break": Case(rename_class("a\nb")),
    "class name with markup": Case(rename_class("[red]a[bold]")),
    "val with a class that train lacks": Case(
        lambda folder: folder_of_images(folder.parents[1] / "val", "c"),
        r"does not have: c; add",
        r"does not have: c; add",
    ),
    "all of train damaged": Case(damage_all("train"), A_PATTERN, r"none of the \d+ images .*\.jpg"),
    "all of val damaged": Case(damage_all("val"), A_PATTERN, r"none of the \d+ images .*val.*\.jpg"),
    "train is a file": Case(replace_train(Path.touch), "has val/ but no train/", "has val/ but no train/"),
    "train is a named pipe": Case(replace_train(os.mkfifo), "has val/ but no train/", "has val/ but no train/"),
    "train is a link to nothing": Case(
        replace_train(lambda path: path.symlink_to("nowhere")), "has val/ but no train/", "has val/ but no train/"
    ),
}

SELECTION = (
    "16-bit PNG",
    "named pipe",
    "link to its own class",
    "folder named like an image",
    "JPEG cut in half",
    NOT_UTF8_CLASS,
)


def train(root: str, policy: str, output: str) -> None:
    """Train in this process, which was forked for it, and exit with the command's code."""
    from convoy.commands.main import main

    opened = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
    words = [
        "data=image_folder",
        f"data.root={root}",
        "data.channels=3",
        "data.image_size=28",
        f"data.on_bad_image={policy}",
    ]
    words += [
        "model=lenet5",
        "trainer.max_epochs=1",
        "trainer.global_batch_size=2",
        "data.num_workers=1",
    ]
    words += ["hardware=cpu", "trainer.precision=32", "hardware.cpu_threads=1", "logger=csv", "scheduler=constant"]
    code = main(["train", *words, f"folder={Path(output).parent}/run"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@pytest.fixture(scope="session")
def forked() -> Any:
    """Return the context that forks processes from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["convoy.commands.train", "convoy.training.run"])
    return context


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """Yield the count of this module's cases, which is printed at the end."""
    counted = Tally("damaged, odd and hostile image files and folders", 0, [])
    yield counted
    counted.show()


@pytest.mark.parametrize("policy", ["error", "skip"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SELECTION else pytest.mark.faults) for name in CASES]
)
def test_folder_trains_or_is_refused_in_one_line(
    tmp_path: Path, forked: Any, tally: Tally, name: str, policy: str
) -> None:
    tally.injected += 1
    tally.lost.append(f"{name}, {policy}")  # until the end of this test
    case = CASES[name]
    for split, number in (("train", 4), ("val", 2)):
        for label in "ab":
            folder = tmp_path / "set" / split / label
            folder.mkdir(parents=True)
            for index in range(number):
                Image.fromarray(np.roll(BASE, index, 0)).save(folder / f"{index}.jpg")
    case.make(tmp_path / "set" / "train" / "a")
    process = forked.Process(target=train, args=(f"{tmp_path}/set", policy, f"{tmp_path}/output"))
    process.start()
    process.join(TIMEOUT_S)
    is_hanging = process.is_alive()
    process.kill()
    process.join()
    output = (tmp_path / "output").read_text(errors="surrogateescape")
    assert not is_hanging, output
    assert "Traceback" not in output
    expected = case.error if policy == "error" else case.skip
    if expected is None:
        assert process.exitcode == 0, output
        assert re.search(case.says, output + (tmp_path / "run" / "run.log").read_text()), output
        tally.lost.pop()
        return
    assert process.exitcode == 2, output
    assert len(re.findall("^error: ", output, re.MULTILINE)) == 1
    assert re.search(expected, output, re.DOTALL), output
    assert not (tmp_path / "run" / "summary.json").exists()
    tally.lost.pop()
