"""Record of a sweep, sweep.json: its points with their folders, from which it is resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convoy.config.faults import Fault, UserError
from convoy.config.run_overrides import check_typed_again
from convoy.runs.layout import new_name, read_json
from convoy.runs.whole_files import replace_text
from convoy.search.sweeps.sweep_table import Point

RECORD = "sweep.json"


@dataclass(frozen=True)
class Sweep:
    """Points of a sweep.

    Attributes:
        folder: of the sweep.
        keys: keys with several values.
        points: in the order in which they start.
    """

    folder: Path
    keys: Sequence[str]
    points: Sequence[Point]

    def chosen(self, point: Point) -> str:
        """Return the values of a point."""
        return " ".join(text for text in point.overrides if text.partition("=")[0] in self.keys)


def new_sweep(output_root: str, keys: Sequence[str], combinations: Sequence[list[str]]) -> Sweep:
    """Create the folder of a sweep and write its record."""
    folder = Path(output_root) / "sweeps" / new_name()
    names = [point_name(index, overrides, keys) for index, overrides in enumerate(combinations)]
    folder.mkdir(parents=True)
    points = [{"folder": name, "overrides": words} for name, words in zip(names, combinations, strict=True)]
    replace_text(folder / RECORD, json.dumps({"keys": list(keys), "points": points}, indent=1) + "\n")
    return read_sweep(folder)


def point_name(index: int, overrides: Sequence[str], keys: Sequence[str]) -> str:
    """Return the folder of a point, such as `0_model=vgg16,optimizer.lr=0.1`, with special characters replaced."""
    text = ",".join(text for text in overrides if text.partition("=")[0] in keys)
    return f"{index}_{re.sub(r'[^A-Za-z0-9_.=,+-]', '-', text)}"[:120]


def folder_to_resume(overrides: Sequence[str]) -> Path | None:
    """Return the folder of the sweep that `resume=` names; None if it names none, or a run."""
    values = [text.partition("=")[2] for text in overrides if text.startswith("resume=")]
    folder = Path(values[-1].strip("'\"")) if values else None
    return folder if folder is not None and (folder / RECORD).is_file() else None


def resumed_sweep(folder: Path, overrides: Sequence[str]) -> Sweep:
    """Return the sweep of a folder.

    Args:
        folder: of the sweep.
        overrides: of the command line.

    Raises:
        UserError: the record can't be read, or the command line changes the sweep.
    """
    sweep = read_sweep(folder)
    known = dict.fromkeys(text for point in sweep.points for text in point.overrides)
    check_typed_again(known, overrides, "sweep", RECORD)
    return sweep


def read_sweep(folder: Path) -> Sweep:
    """Return the sweep of a record."""
    content = read_json(folder / RECORD)
    try:
        points = [Point([*map(str, one["overrides"])], folder / Path(one["folder"]).name) for one in content["points"]]
        return Sweep(folder, [*map(str, content["keys"])], points)
    except (KeyError, TypeError) as error:
        raise UserError(Fault("resume", f"{RECORD} can't be read", "start a new sweep", str(folder))) from error
