"""Files of checkpoints: written whole or not at all, straight to their folder, without a copy in memory."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from torch import Tensor
from torch.utils import _pytree

from convoy.runs.layout import RunFolder
from convoy.runs.whole_files import copy_partial, publish, write_partial


class CheckpointFiles(TorchCheckpointIO):
    """Lightning plugin that writes checkpoints with `save`.

    Lightning's plugin serializes a checkpoint in memory, writes it to the temporary folder and moves it from there,
    which copies it once more if that folder is on another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: content.
            path: file.
            storage_options: further files that get the same content (see `save`).
        """
        if "://" in str(path):  # of a user's callback
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            save(checkpoint, Path(path), storage_options or ())


def save(content: dict[str, Any], path: Path, copies: Sequence[Path] = ()) -> None:
    """Write a checkpoint and copies of it.

    `path` is replaced when all files are complete, the copies after it: if the process dies in between, `path` has the
    content of a copy that is missing (see `restore_best`).

    Args:
        content: of the checkpoint.
        path: file.
        copies: further files; hard links if the file system has them.

    Raises:
        WriteError: a file can't be written. The files are then as they were, but for a copy that can't be renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        partial = write_partial(path, lambda file: _write(content, file), _size(content))
        stack.callback(_remove, partial)
        staged = []
        for copy in copies:
            staged.append(copy_partial(partial, copy))
            stack.callback(_remove, staged[-1])
        publish(partial, path)
        for copied, copy in zip(staged, copies, strict=True):
            publish(copied, copy)


def step_of(path: Path) -> int | None:
    """Return the optimizer step of a checkpoint; None if there is no such file or it is damaged."""
    for mmap in (True, False):  # a mapped file is not read as a whole, but not every file system can map files
        try:
            return int(torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)["global_step"])
        except FileNotFoundError:
            return None
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError, KeyError, TypeError):
            continue
    return None


def restore_best(run: RunFolder, best_step: int) -> bool:
    """Make best.ckpt the checkpoint of a step again, if a process died before it was.

    Args:
        run: whose last.ckpt names `best_step` as the best.
        best_step: optimizer step.

    Returns:
        Whether best.ckpt is of that step; False if no checkpoint of it is left.

    Raises:
        WriteError: best.ckpt can't be written.
    """
    if step_of(run.best) == best_step:
        return True
    for path in (run.last, run.checkpoints / f"step-{best_step}.ckpt"):
        if step_of(path) == best_step:
            publish(copy_partial(path, run.best), run.best)
            return True
    return False


class _Recorder:
    """File for `torch.save`, which reports a failed write as a RuntimeError without its cause."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _write(content: dict[str, Any], file: BinaryIO) -> None:
    recorder = _Recorder(file)
    try:
        torch.save(content, recorder)  # type: ignore[arg-type]
    except (OSError, RuntimeError):
        if recorder.error is not None:
            raise recorder.error from None
        raise


def _size(content: dict[str, Any]) -> int:
    """Return the bytes of all tensors; storages that several tensors share count once."""
    storages = {
        leaf.untyped_storage().data_ptr(): leaf.untyped_storage().nbytes()
        for leaf in _pytree.tree_leaves(content)
        if isinstance(leaf, Tensor)
    }
    return sum(storages.values())


def _remove(partial: Path) -> None:
    with contextlib.suppress(OSError):
        partial.unlink(missing_ok=True)
