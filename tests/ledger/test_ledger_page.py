"""The page: one file, its bars by the figures of the csv, text escaped."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from torchvision import models

from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.html_page import html_text
from convoy.ledger.ledger_object import Ledger
from convoy.ledger.skeleton import without_weights
from convoy.ledger.text_formats import markdown_text


class Elements(HTMLParser):
    """Every element with its attributes, and that each is closed that must be."""

    _VOID = frozenset({"meta", "line", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    network = without_weights(models.alexnet)
    return build_ledger(network, (3, 224, 224), name="a<b>&c", optimizer=lambda one: torch.optim.Adam(one.parameters()))


def test_the_page_is_one_well_formed_file_that_fetches_nothing(ledger: Ledger) -> None:
    text = html_text(ledger)
    page = Elements(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.found}
    assert not re.search(r"https?:|url\(|@import", text)
    assert "a&lt;b&gt;&amp;c" in text
    assert "a<b>" not in text
    assert "prefers-color-scheme: dark" in text
    assert "Most parameters are in late FC" in text


def test_bars_are_as_long_as_the_figures(ledger: Ledger) -> None:
    bars = [given for tag, given in Elements(html_text(ledger)).found if tag == "rect"]
    for kind, column in (("memory", "saved_bytes"), ("params", "params")):
        widths = [float(given["width"] or 0) for given in bars if given["class"] == kind]
        values = [getattr(row, column) for row in ledger.rows if row.storage != "view" and getattr(row, column)]
        assert len(widths) == len(values)
        longest = max(values)
        assert widths == [pytest.approx(max(1.0, 210 * value / longest), abs=0.06) for value in values]


def test_a_deep_network_gets_lower_bars_and_no_labels(ledger: Ledger) -> None:
    deep = replace(ledger, rows=ledger.rows * 12)
    height = int(re.search(r'viewBox="0 0 960 (\d+)"', html_text(deep))[1])  # type: ignore[index]
    assert height < 5 * len(deep.rows) + 100


def test_markdown_has_a_line_a_row_and_the_totals(ledger: Ledger) -> None:
    text = markdown_text(ledger)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == len(ledger.rows) + 3
    assert {line.count(" | ") for line in lines} == {9}
    assert "| 61,100,840 |" in lines[-1]
    assert "Not counted: loss" in text
