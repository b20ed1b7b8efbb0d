"""Page as HTML: sections with figures, tables and images, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convoy.report.pages.vega import Chart, vega_script

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Cell:
    """Cell of a table.

    Attributes:
        text: as shown.
        order: value by which the table is sorted; None: the text.
        is_number: whether it is aligned to the right.
    """

    text: str
    order: float | None = None
    is_number: bool = False


def number(value: float | None, text: str | None = None) -> Cell:
    """Return a cell with a number; a dash if there is none."""
    if value is None:
        return Cell("–", float("-inf"), is_number=True)
    return Cell(text if text is not None else f"{value:,}", float(value), is_number=True)


@dataclass(frozen=True)
class Table:
    """Table that the reader can sort by a click on a column's title.

    Attributes:
        caption: what it shows.
        columns: titles; the first one is that of the row names.
        rows: cells.
        is_long: whether the table scrolls in a box.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    is_long: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """Chart with a title."""

    title: str
    chart: Chart
    note: str = ""
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Picture:
    """Image with a caption.

    Attributes:
        source: data URL.
        text: what it shows, for people who can't see it.
        caption: lines below the image.
        width: in pixels on the page.
        is_pixelated: whether pixels stay squares when the image is enlarged.
    """

    source: str
    text: str
    caption: Sequence[str] = ()
    width: int = 160
    is_pixelated: bool = False


@dataclass(frozen=True)
class Gallery:
    """Images side by side."""

    title: str
    pictures: Sequence[Picture]
    note: str = ""
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Fact:
    """Number with its name, such as the accuracy on test."""

    name: str
    value: str


@dataclass(frozen=True)
class Facts:
    """Names and values; `is_large` for the result at the top of a page."""

    facts: Sequence[Fact]
    is_large: bool = False
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Code:
    """Text in a fixed-width font; with a title, it is folded."""

    text: str
    title: str = ""
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Markup:
    """HTML of another part of Convoy, which has escaped its texts."""

    html: str
    kind: ClassVar[str] = "markup"


@dataclass(frozen=True)
class Section:
    """Section of a page with an entry in its table of contents.

    Attributes:
        title: of the section.
        parts: `Figure`s, `Table`s and other parts.
        in_columns: whether parts are side by side on a wide screen.
    """

    title: str
    parts: Sequence[Any]
    in_columns: bool = False

    @property
    def anchor(self) -> str:
        """Return the id of the section in the page."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


@dataclass(frozen=True)
class Page:
    """Page with sections; those without parts are left out."""

    title: str
    subtitle: str
    sections: Sequence[Section] = field(default_factory=tuple)

    def html(self) -> str:
        """Return the page, which needs no other file and sends no request."""
        shown = [section for section in self.sections if section.parts]
        return _environment().get_template("page.html.j2").render(page=self, sections=shown, vega=vega_script())


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(_TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
