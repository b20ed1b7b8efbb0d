"""Lookup of runs and of their checkpoints. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from convoy.config.faults import Fault, UserError
from convoy.runs.layout import RunFolder
from convoy.runs.lock import is_being_trained

LATEST = "latest"


def find_run(
    text: str, output_root: str | Path, key: str = "run", *, name: str | None = None, is_idle: bool = False
) -> RunFolder:
    """Return the run described by `text`.

    Args:
        text: latest, a run's folder (also relative to `output_root`), a run's name, which is the newest run of that
            name, the six characters at the end of a run's folder, or a checkpoint in a run's folder.
        output_root: folder of all runs.
        key: setting of the run, for messages.
        name: with latest, only runs of that name.
        is_idle: whether latest and names ignore runs that are being trained.

    Raises:
        UserError: if there is no such run.
    """
    root = Path(output_root)
    if text == LATEST:
        return _newest(root, name, key, text, is_idle=is_idle)
    for path in (Path(text), root / text):
        if path.is_file() and path.suffix == ".ckpt":
            path = path.absolute().parent.parent
        if (path / "config.yaml").is_file():
            return RunFolder(path.absolute())
    if Path(text).is_file():
        remedy = "name a run's folder; a checkpoint elsewhere is named with checkpoint=, as in convoy evaluate"
        raise UserError(Fault(key, "is not in a run's folder (no config.yaml)", remedy, text))
    # A name has no slash: a mistyped folder must not select another run.
    if "/" not in text and (root / text).is_dir():
        return _newest(root, text, key, text, is_idle=is_idle)
    if re.fullmatch(r"[0-9a-f]{6}", text):
        for found in root.glob(f"*/*-{text}"):
            if (found / "config.yaml").is_file():
                return RunFolder(found.absolute())
    if Path(text).is_dir():
        runs = [path.parent for path in Path(text).glob("*/config.yaml")]
        remedy = f"name one that has it, such as {max(runs)}" if runs else "name one that has it"
        raise UserError(Fault(key, "is not a run's folder (no config.yaml)", remedy, text))
    remedy = "name a run's folder or one of its checkpoints, a run's name, or write latest"
    raise UserError(Fault(key, "no such run", remedy, text))


def find_checkpoint(run: RunFolder, text: str) -> Path:
    """Return a checkpoint of a run.

    Args:
        run: folder of the run.
        text: best, last, or a file.

    Raises:
        UserError: if there is no such checkpoint.
    """
    known = {"best": run.best, "last": run.last}
    checkpoint = known.get(text, Path(text))
    if not checkpoint.is_file():
        there = [name for name, path in known.items() if path.is_file()]
        if not there:
            raise UserError(Fault("run", "has no checkpoint yet", "it ended before its first", str(run.path)))
        raise UserError(Fault("checkpoint", "no such file", f"choose {' or '.join(there)}", text))
    return checkpoint.absolute()


def run_of(checkpoint: Path) -> RunFolder | None:
    """Return the run of a checkpoint in a run's folder; None for a checkpoint elsewhere."""
    run = RunFolder(checkpoint.absolute().parent.parent)
    return run if run.config.is_file() and checkpoint.absolute().parent == run.checkpoints else None


def _newest(root: Path, name: str | None, key: str, text: str, *, is_idle: bool) -> RunFolder:
    """Return the run with the newest last checkpoint, or also best one unless it must be idle to be resumed."""
    files = ("last.ckpt",) if is_idle else ("last.ckpt", "best.ckpt")
    found = [
        (path.stat().st_mtime_ns, path.parent.parent)
        for pattern in ("*/*/checkpoints", "sweeps/*/*/checkpoints")
        for file in files
        for path in root.glob(f"{pattern}/{file}")
        if name is None or path.parents[2].name == name
    ]
    where = root / name if name else root
    if not found:
        raise UserError(Fault(key, f"no run with a checkpoint under {where}", "start one first", text))
    for _, path in sorted(found, reverse=True):
        if not (is_idle and is_being_trained(path)):
            return RunFolder(path.absolute())
    raise UserError(Fault(key, f"each run under {where} is being trained", "wait until one ends", text))
