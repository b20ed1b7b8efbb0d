"""The documentation site builds offline in strict mode, and each of its links leads to a page and a heading."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from convoy.commands.train_help import configuration_reference
from convoy.config.options import Options

ROOT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        link = given.get("href") if tag in ("a", "link") else given.get("src")
        if link:
            self.links.add(link)


def broken_links(folder: Path) -> list[str]:
    pages = {path: Page(path) for path in folder.rglob("*.html") if path.name != "404.html"}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            is_other = bool(parts.scheme or parts.netloc)
            known = pages[target].anchors if target in pages else {"", unquote(parts.fragment)}
            if not is_other and (not target.exists() or unquote(parts.fragment) not in known):
                broken.append(f"{path.name}: {link}")
    return sorted(broken)


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<h2 id="one"></h2><a href="#one"></a><a href="b.html#two"></a>')
    (tmp_path / "b.html").write_text('<a href="a.html#one"></a><a href="c.html"></a>')
    assert broken_links(tmp_path) == ["a.html: b.html#two", "b.html: c.html"]


def test_the_configuration_reference_has_each_group_and_key() -> None:
    text = configuration_reference(Options())
    for part in ("| `trainer.max_epochs` | `null` |", "| `data.augment.flip` |", "| `model=vgg16` |", "## scheduler"):
        assert part in text


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="needs the group docs: make install-docs")
def test_the_site_builds_without_broken_links(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "docs" / "site" / "build_site.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert broken_links(tmp_path / "html") == []
    assert (tmp_path / "html" / "search.json").is_file()
    for path in (tmp_path / "html").glob("*.html"):
        others = {link for link in Page(path).links if urlsplit(link).scheme in ("http", "https")}
        assert not {link for link in others if "fonts" in link or link.endswith((".js", ".css"))}
