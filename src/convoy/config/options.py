"""Options of the groups: one short YAML file each, in conf/ or in a folder of the user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1] / "conf"
"""Folder of Convoy's options: inside the package in a wheel, at the top of the tree in a checkout."""


@dataclass(frozen=True)
class Options:
    """Folders in which options are looked up.

    Attributes:
        folder: folder of the user with the layout of conf/, searched after Convoy's; None if there is none.
    """

    folder: Path | None = None

    @property
    def folders(self) -> list[Path]:
        return [CONF] + ([self.folder] if self.folder else [])

    def of(self, group: str) -> list[str]:
        """Names of a group's options, sorted."""
        return sorted({path.stem for folder in self.folders for path in (folder / group).glob("*.yaml")})

    def head(self, group: str, option: str) -> str:
        """Return the first line of an option's head comment."""
        for folder in reversed(self.folders):
            path = folder / group / f"{option}.yaml"
            if path.is_file():
                lines = path.read_text(encoding="utf-8").splitlines()
                comments = [line.lstrip("# ").strip() for line in lines if line.startswith("#")]
                return next((line for line in comments if not line.startswith("@")), "")
        return ""
