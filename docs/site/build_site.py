"""Builder of the documentation site: copies docs/, adds generated pages and runs Zensical in strict mode.

Usage: python docs/site/build_site.py [folder]
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from convoy.commands.train_help import configuration_reference
from convoy.config.options import Options

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "api": "Python",
    "tasks": "Tasks",
    "models": "Models",
    "ledger": "Ledger",
    "planner": "Planner",
    "export": "Export",
}
"""Packages with a page of their public classes and functions, and the page's title."""


def main(folder: Path) -> int:
    """Write the pages to `folder`/docs and the site to `folder`/html; return Zensical's exit code."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = folder / "docs"
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("site"))
    _copy_outside_pages(pages)
    (pages / "configuration.md").write_text(configuration_reference(Options()), encoding="utf-8")
    (pages / "reference").mkdir()
    for package, title in PACKAGES.items():
        (pages / "reference" / f"{package}.md").write_text(_api_page(package, title), encoding="utf-8")
    text = (ROOT / "docs" / "site" / "zensical.toml").read_text(encoding="utf-8")
    (folder / "zensical.toml").write_text(text.replace("SOURCE_DIR", str(ROOT / "src")), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder, check=False).returncode


_SOURCE = r"\.(?:py|yaml|ipynb)"
"""Suffix of files of which the site has no copy: their names are shown without a link."""


def _copy_outside_pages(pages: Path) -> None:
    """Add README.md, CONTRIBUTING.md, CHANGELOG.md and examples/README.md, with links that fit their new places."""
    outside = {
        "README.md": "index.md",
        "CONTRIBUTING.md": "contributing.md",
        "CHANGELOG.md": "changelog.md",
        "examples/README.md": "examples.md",
    }
    for name, new in outside.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/", "](", text)
        for other, target in outside.items():
            text = text.replace(f"]({other}", f"]({target}")
        if name.startswith("examples/"):
            text = re.sub(rf"\[([^\]]+)\]\((?!https?:|#)[^)]*{_SOURCE}\)", r"\1", text)
        (pages / new).write_text(text, encoding="utf-8")
    for path in pages.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        text = text.replace("](../examples/README.md", "](examples.md")
        path.write_text(re.sub(rf"\[([^\]]+)\]\(\.\./examples/[^)]*{_SOURCE}\)", r"\1", text), encoding="utf-8")


def _api_page(package: str, title: str) -> str:
    """Return a page with the docstrings of the modules of a package."""
    folder = ROOT / "src" / "convoy" / package
    modules = sorted(path for path in folder.rglob("*.py") if not path.stem.startswith("_"))
    names = [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in modules]
    return f"# {title}\n\n" + "\n\n".join(f"::: {name}" for name in names) + "\n"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site").resolve()))
