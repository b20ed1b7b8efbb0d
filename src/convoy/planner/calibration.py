"""What was measured of a card, in a JSON file: written by `convoy calibrate`, read by the planner."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from convoy.config.faults import Fault, UserError

FOLDER = "calibration"
"""Of the files, under output_root: one for each name of hardware."""


@dataclass(frozen=True)
class Calibration:
    """The measurements of one card.

    Attributes:
        device: as its driver names it; empty: nothing was measured.
        measured: date and time.
        versions: of torch, CUDA, cuDNN and the driver.
        usable_bytes: of the card, by its driver.
        context_bytes: that a process had taken of it when it had used CUDA's libraries, without tensors.
        workspaces: bytes that a convolution takes while it runs, by its signature and then by micro batch.
    """

    device: str = ""
    measured: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    usable_bytes: int | None = None
    context_bytes: int | None = None
    workspaces: dict[str, dict[int, int]] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """For people: on what and when it was measured; empty: it wasn't."""
        return f"{self.device}, {self.measured}" if self.device else ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The measurements in a file.

        Raises:
            UserError: it is no such file.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found = cls(**content)
            workspaces = {
                name: {int(batch): int(size) for batch, size in sizes.items()}
                for name, sizes in found.workspaces.items()
            }
            return replace(found, workspaces=workspaces)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            rule = f"is no calibration ({error})"
            raise UserError(
                Fault("hardware", rule, "delete it, or measure anew with convoy calibrate", str(path))
            ) from error

    def with_workspaces_of(self, older: Self) -> Self:
        """With what was measured before of other convolutions, on the same device with the same versions."""
        if (older.device, older.versions) != (self.device, self.versions):
            return self
        merged = {name: dict(sizes) for name, sizes in older.workspaces.items()}
        for name, sizes in self.workspaces.items():
            merged.setdefault(name, {}).update(sizes)
        return replace(self, workspaces=merged)

    def text(self) -> str:
        """The file's content."""
        return json.dumps(asdict(self), indent=1) + "\n"


def path_of(output_root: str, hardware: str) -> Path:
    """Where a card's measurements are kept."""
    return Path(output_root) / FOLDER / f"{hardware}.json"


def calibration_of(output_root: str, hardware: str) -> Calibration:
    """What was measured of a card; nothing where there is no file.

    Raises:
        UserError: the file is no calibration.
    """
    path = path_of(output_root, hardware)
    return Calibration.read(path) if path.is_file() else Calibration()
