"""Contact sheet and page of a data set: pictures where they belong, and a valid, accessible page."""

from __future__ import annotations

import base64
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Run

from convoy.data.inspection.examples import Example, ExampleRow
from convoy.report.contact_page import page_text
from convoy.report.contact_sheet import draw_sheet, shown

Convoy = Callable[..., Run]
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Elements of a page; fails where an end tag does not close the last open element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def rows(side: int = 16) -> list[ExampleRow]:
    levels = [np.full((side, side, 3), level, dtype=np.uint8) for level in range(0, 200, 10)]
    examples = tuple(Example((f"<{i}>.png", f"{i}.png"), (levels[i], levels[i + 10])) for i in range(10))
    return [ExampleRow('a "class" <b>', "10 training images", ("original", "augmented"), examples)]


def test_pictures_are_below_each_other() -> None:
    sheet = np.asarray(draw_sheet("title", rows()))
    # The medians, since text has single pixels of these levels too.
    places = [np.median(np.argwhere((sheet == level).all(2)), axis=0) for level in range(0, 200, 10)]
    for above, below in zip(places[1:10], places[11:], strict=True):
        assert abs(above[1] - below[1]) <= 1
        assert above[0] + 112 < below[0]
    assert places[8][0] > places[17][0]  # the ninth example begins a new line
    assert places[8][1] < places[9][1]


@pytest.mark.parametrize(("side", "expected"), [(8, 112), (32, 96), (112, 112), (224, 112)])
def test_pictures_have_about_the_same_size(side: int, expected: int) -> None:
    assert shown(np.zeros((side, side, 1), dtype=np.uint8)).size == (expected, expected)


def test_pictures_keep_their_shape() -> None:
    assert shown(np.zeros((10, 20, 3), dtype=np.uint8)).size == (100, 50)
    assert shown(np.zeros((224, 112, 3), dtype=np.uint8)).size == (56, 112)


def test_the_page_is_valid_and_every_picture_has_a_description() -> None:
    text = page_text("Title <1>", "report & more", rows())
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert '<html lang="en">' in text
    assert page.tags.count("title") == page.tags.count("h1") == page.tags.count("main") == 1
    assert "script" not in page.tags
    assert "report &amp; more" in text
    assert page.images[0]["alt"] == 'a "class" <b>, original: <0>.png'
    assert len(page.images) == 20
    for image, level in zip(
        page.images, [level + 100 * side for level in range(0, 100, 10) for side in (0, 1)], strict=True
    ):
        kind, _, content = (image["src"] or "").partition(";base64,")
        assert kind == "data:image/png"
        picture = Image.open(BytesIO(base64.b64decode(content)))
        assert picture.size == (int(image["width"] or 0), int(image["height"] or 0))
        assert picture.getpixel((3, 3)) == (level, level, level)


def test_the_command_writes_sheet_and_page(convoy: Convoy, tmp_path: Path) -> None:
    done = convoy("data", "data=digits", "limit=300", "output=examples.png")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "examples.png"
    assert Image.open("examples.png").format == "PNG"
    assert convoy("data", "data=digits", "limit=300", "output=examples.html").code == 0
    page = Page(Path("examples.html").read_text(encoding="utf-8"))
    assert len(page.images) >= 2 * 8 * 10
    assert all(image["alt"] for image in page.images)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["examples.html", "examples.png"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("examples.jpg", "must end in .png or .html; write output=examples.html"),
        ("missing/examples.png", "create the folder first"),
    ],
)
def test_a_wrong_file_is_refused(output: str, message: str, convoy: Convoy) -> None:
    done = convoy("data", "data=digits", f"output={output}")
    assert done.code == 2
    assert message in done.err
