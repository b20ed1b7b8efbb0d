"""Vega-Lite charts of a page, and the JavaScript that draws them.

A chart is a Vega-Lite specification (https://vega.github.io/vega-lite/docs/) with its data. The browser draws it with
the scripts of `vl_convert`, which a page contains.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from convoy.runs.whole_files import replace_text

# Okabe & Ito's palette, which people with colour vision deficiency can distinguish.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#5c5c5c")
HEIGHT = 260
"""Height of a chart in pixels; its width is that of the page."""

ZOOM = {
    "name": "zoom",
    "select": {"type": "interval", "zoom": "wheel![event.shiftKey]", "translate": True},
    "bind": "scales",
}
"""Parameter of a chart that zooms by Shift and the wheel and pans by dragging, so that the wheel scrolls the page."""


@dataclass(frozen=True)
class Chart:
    """Chart of a page.

    Attributes:
        spec: Vega-Lite specification without schema and size.
        text: what it shows, for people who can't see it.
        columns: titles of the table with the chart's data.
        rows: its rows, of `Cell`s.
    """

    spec: Mapping[str, Any]
    text: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()

    @property
    def height(self) -> int:
        """Height in pixels, which the page keeps free before the chart is drawn."""
        height = self.spec.get("height", HEIGHT)
        return height if isinstance(height, int) else HEIGHT

    @property
    def json(self) -> str:
        """Return the specification as JSON that can be part of an HTML script element."""
        spec = {"width": "container", "height": HEIGHT, "description": self.text, **self.spec}
        return json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")


def vega_script() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed, about 0.9 MB.

    Building it takes seconds, so that it is kept in the user's cache folder.
    """
    import vl_convert

    cached = (
        Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        / "convoy"
        / f"vega-{version('vl-convert-python')}.js"
    )
    try:
        return cached.read_text(encoding="utf-8")
    except OSError:
        pass
    script = str(vl_convert.javascript_bundle())  # type: ignore[call-arg]
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        replace_text(cached, script)
    except OSError:  # a home without space, or none
        pass
    return script
