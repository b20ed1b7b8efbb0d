"""Measurements of a GPU in a JSON file, written by `convoy calibrate` and read by the planner."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from convoy.config.faults import Fault, UserError

FOLDER = "calibration"
"""Folder of the files under `output_root`; one file per hardware name."""


@dataclass(frozen=True)
class Calibration:
    """Measurements of one GPU.

    Attributes:
        device: Name that the driver reports; empty if nothing was measured.
        measured: Date and time.
        versions: Versions of torch, CUDA and cuDNN.
        usable_bytes: Memory that the driver reports.
        context_bytes: Memory that a process without tensors takes after it has used CUDA's libraries.
        workspaces: Bytes of a convolution's workspace by signature and micro batch size.
    """

    device: str = ""
    measured: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    usable_bytes: int | None = None
    context_bytes: int | None = None
    workspaces: dict[str, dict[int, int]] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Device and time of the measurement; empty if nothing was measured."""
        return f"{self.device}, {self.measured}" if self.device else ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the measurements from a file.

        Raises:
            UserError: The file is not a calibration.
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
            rule = f"is not a calibration ({error})"
            raise UserError(
                Fault("hardware", rule, "delete it, or measure again with convoy calibrate", str(path))
            ) from error

    def with_workspaces_of(self, older: Self) -> Self:
        """Add older workspaces of other convolutions, if device and versions are the same."""
        if (older.device, older.versions) != (self.device, self.versions):
            return self
        merged = {name: dict(sizes) for name, sizes in older.workspaces.items()}
        for name, sizes in self.workspaces.items():
            merged.setdefault(name, {}).update(sizes)
        return replace(self, workspaces=merged)

    def text(self) -> str:
        """Return the content of the file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def path_of(output_root: str, hardware: str) -> Path:
    """Return the path of the calibration of a hardware option."""
    return Path(output_root) / FOLDER / f"{hardware}.json"


def calibration_of(output_root: str, hardware: str) -> Calibration:
    """Return the calibration of a hardware option; an empty one if there is no file.

    Raises:
        UserError: The file is not a calibration.
    """
    path = path_of(output_root, hardware)
    return Calibration.read(path) if path.is_file() else Calibration()
