"""Contact sheet of a data set as a PNG: examples per class, before and after augmentation, and pairs of duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from convoy.config.faults import printable
from convoy.data.images.resize import Pixels
from convoy.data.inspection.examples import ExampleRow
from convoy.runs.whole_files import publish, write_partial

SIDE = 112
"""Approximate side of a picture, in pixels."""
_GAP, _MARGIN, _GUTTER = 6, 16, 84
_TITLE = 26
_COLUMNS = 8
_INK, _SOFT, _PAPER = "#1c1c1c", "#5c5c5c", "#ffffff"


def shown(pixels: Pixels) -> Image.Image:
    """Return a picture, uint8 [H, W, C], about `SIDE` pixels long; pixels of small ones are squares.

    Other channels than gray and RGB are averaged.
    """
    gray = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels.mean(2).astype(np.uint8)
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else gray)
    longest = max(image.size)
    if longest < SIDE:
        factor = SIDE // longest
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, side * SIDE // longest) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def draw_sheet(title: str, rows: Sequence[ExampleRow]) -> Image.Image:
    """Draw the examples, eight per line; the second picture of an example is below the first."""
    wide, high = next((shown(row.examples[0].pictures[0]).size for row in rows if row.examples), (SIDE, SIDE))
    block = 2 * high + 3 * _GAP
    lines = [-(-len(row.examples) // _COLUMNS) for row in rows]
    width = 2 * _MARGIN + _GUTTER + _COLUMNS * (wide + _GAP)
    height = 2 * _MARGIN + 2 * _TITLE + sum(_TITLE + count * block for count in lines)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    large, normal, small = _font(18), _font(15), _font(12)
    draw.text((_MARGIN, _MARGIN), _cut(title, large, width - 2 * _MARGIN), _INK, large)
    top = _MARGIN + int(1.5 * _TITLE)
    for row, count in zip(rows, lines, strict=True):
        name = _cut(printable(row.title), normal, width // 2)
        draw.text((_MARGIN, top), name, _INK, normal)
        draw.text((_MARGIN + normal.getlength(name) + 12, top + 2), row.note, _SOFT, small)
        top += _TITLE
        for line in range(count):
            for index, caption in enumerate(row.captions):
                draw.text((_MARGIN, top + index * (high + _GAP) + high // 2 - 8), caption, _SOFT, small)
            for column, example in enumerate(row.examples[line * _COLUMNS : (line + 1) * _COLUMNS]):
                left = _MARGIN + _GUTTER + column * (wide + _GAP)
                for index, picture in enumerate(example.pictures):
                    sheet.paste(shown(picture), (left, top + index * (high + _GAP)))
            top += block
    return sheet


def write_sheet(title: str, rows: Sequence[ExampleRow], path: Path) -> None:
    """Write the contact sheet as a PNG file."""
    sheet = draw_sheet(title, rows)
    publish(write_partial(path, lambda file: sheet.save(file, "PNG")), path)


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's font has only Latin letters.
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
