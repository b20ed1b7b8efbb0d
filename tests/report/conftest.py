"""Fixture of a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@dataclass
class Opened:
    """A page in the browser, after its charts were drawn.

    Attributes:
        page: Playwright's page.
        errors: messages of the console with the level error or warning, and exceptions.
        requests: addresses that the page requested, itself included.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def serious_faults(self) -> list[str]:
        """Return the serious and critical faults of axe-core's accessibility rules."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
        ]


@pytest.fixture
def browse() -> Iterator[Callable[..., Opened]]:
    """Return a function that opens a file in headless Chromium: `browse(path, width=1280, scheme="light")`."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_QUIET))

        def browse(path: Path, width: int = 1280, scheme: str = "light") -> Opened:
            opened = Opened(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme))
            opened.page.on(
                "console",
                lambda line: opened.errors.append(line.text) if line.type in ("error", "warning") else None,
            )
            opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
            opened.page.on("request", lambda request: opened.requests.append(request.url))
            opened.page.goto(path.absolute().as_uri())
            opened.page.wait_for_selector("html[data-drawn=true]")
            return opened

        yield browse
        browser.close()
