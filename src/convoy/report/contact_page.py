"""HTML page about a data set: the report, examples per class and pairs of duplicates, without other files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

from convoy.config.faults import printable
from convoy.data.images.resize import Pixels
from convoy.data.inspection.examples import Example, ExampleRow
from convoy.report.contact_sheet import shown
from convoy.runs.whole_files import replace_text

_LOSSLESS = 64
"""Side in pixels up to which pictures are stored as PNG; larger ones are JPEGs."""

_STYLE = """
:root { --ground: #ffffff; --ink: #1c1c1c; --soft: #5c5c5c; --line: #d9d9d9 }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181b; --ink: #e8e8e8; --soft: #a6a6a6; --line: #3a3d42 }
}
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 1100px; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem }
p { color: var(--soft); margin: .2rem 0 .6rem }
div { border: 1px solid var(--line); font-size: .85rem; overflow-x: auto; padding: .8rem } pre { margin: 0 }
ul { display: flex; flex-wrap: wrap; gap: .5rem; list-style: none; margin: 0; padding: 0 }
img { display: block; margin-bottom: 4px }
"""


def page_text(title: str, report: str, rows: Sequence[ExampleRow]) -> str:
    """Return the page, which needs no other file.

    Args:
        title: headline.
        report: report for the terminal.
        rows: examples.
    """
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>{escape(title)}</h1>",
            f'<div role="region" aria-label="Report" tabindex="0"><pre>{escape(report)}</pre></div>',
            *(_section(row) for row in rows),
            "</main></body></html>\n",
        ]
    )


def write_page(title: str, report: str, rows: Sequence[ExampleRow], path: Path) -> None:
    """Write the page."""
    replace_text(path, page_text(title, report, rows))


def _section(row: ExampleRow) -> str:
    items = "\n".join(f"<li>{_pictures(row, example)}</li>" for example in row.examples)
    first, second = row.captions
    return (
        f"<h2>{escape(printable(row.title))}</h2><p>{escape(row.note)}; above: {first}, below: {second}</p>\n"
        f"<ul>\n{items}\n</ul>"
        if items
        else f"<h2>{escape(printable(row.title))}</h2><p>{escape(row.note)}</p>"
    )


def _pictures(row: ExampleRow, example: Example) -> str:
    pictures = zip(row.captions, example.names, example.pictures, strict=True)
    return "".join(_image(f"{row.title}, {caption}: {name}", pixels) for caption, name, pixels in pictures)


def _image(text: str, pixels: Pixels) -> str:
    picture, content = shown(pixels), BytesIO()
    kind = "png" if max(pixels.shape) <= _LOSSLESS else "jpeg"
    picture.save(content, kind, quality=90)
    source = base64.b64encode(content.getvalue()).decode()
    description = escape(printable(text))
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img {size} alt="{description}" title="{description}" src="data:image/{kind};base64,{source}">'
