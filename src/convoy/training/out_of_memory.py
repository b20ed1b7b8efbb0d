"""Recovery from running out of GPU memory: the run resumes from its last step with half the micro batch.

The rank that fails writes the state after the last whole step, which is that of all ranks, and notifies the others
through a key in `RankStore`. They watch the key from a separate thread, since they may be waiting for the failed rank
in a collective operation. Then each rank's process executes the same run resumed: a new program in the same process, so
that Slurm and Lightning notice nothing, and all memory is freed with the CUDA context.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from convoy.cluster import reports
from convoy.config.batch import BatchSizes
from convoy.config.trust import TRUST
from convoy.records.console import Console
from convoy.runs.layout import RunFolder
from convoy.runtime.rank_store import RankStore
from convoy.runtime.rank_watch import WATCH
from convoy.runtime.stop_signals import StopSignal
from convoy.training.checkpoint_files import save
from convoy.training.out_of_memory_errors import is_out_of_memory
from convoy.training.signals import StoppedError

BEGUN_FOLDER = "CONVOY_BEGUN_FOLDER"
"""Set where a run begins again in its own folder, since it had no checkpoint to resume from."""

_FAILED, _LEAVING = "out_of_memory", "leaving"
_LOOK_EVERY_S, _PATIENCE_S = 0.1, 30.0


def smaller(sizes: BatchSizes) -> int | None:
    """Return the largest micro batch of at most half that keeps the global batch; None for one of a single sample."""
    share = sizes.global_batch_size // sizes.world_size
    halves = range(sizes.micro_batch_size // 2, 0, -1)
    return next((micro for micro in halves if share % micro == 0), None)


class OutOfMemory(pl.Callback):
    """Lightning callback that restarts a run that has run out of memory.

    Must come before callbacks that clean up after an exception.

    Args:
        run: its folder, whose config.yaml the restarted run uses.
        sizes: of its batches.
        eval_batch_size: samples per rank of val and test.
        terminal: of the first rank.
        store: of the ranks.
    """

    def __init__(
        self, run: RunFolder, sizes: BatchSizes, eval_batch_size: int, terminal: Console, store: RankStore
    ) -> None:
        self._run, self._sizes, self._terminal, self._store = run, sizes, terminal, store
        self._eval_batch_size = eval_batch_size
        self._is_updating = False
        self._door = threading.Lock()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:
            self._store.add_watcher(lambda: self._look(trainer))

    def on_before_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self._is_updating = True

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._is_updating = False

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if isinstance(exception, StopSignal | StoppedError):
            return
        if not is_out_of_memory(exception):
            # It may be the loss of a rank that has run out of memory.
            if change := self._change_of_another():
                self._leave(trainer, change)
            return
        change = self._change(trainer)
        if change is None:
            return  # nothing is left to halve: the error is reported as it is
        if trainer.training and not self._is_updating:
            self._save(trainer, pl_module)
        if self._store.is_open:
            with contextlib.suppress(RuntimeError):  # the first rank has gone already
                self._store.write(_FAILED, change)
        self._leave(trainer, change)

    def _change(self, trainer: pl.Trainer) -> str | None:
        """Return the override with which the run resumes."""
        if not trainer.training:
            half = self._eval_batch_size // 2
            return f"trainer.eval_batch_size={half}" if half else None
        micro = smaller(self._sizes)
        return None if micro is None else f"trainer.micro_batch_size={micro}"

    def _save(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write last.ckpt as after the last whole step. Only this rank is here, so nothing may wait for the others."""
        pl_module.running.fall_back(trainer.global_step)
        content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        save(content, self._run.last)

    def _look(self, trainer: pl.Trainer) -> None:
        """Leave if another rank has run out of memory; called by the store's thread."""
        if (change := self._store.read(_FAILED)) is not None:
            self._leave(trainer, change)

    def _change_of_another(self) -> str | None:
        """Return the override with which the run resumes if another rank has run out of memory, else None."""
        if not self._store.is_open:
            return None
        with contextlib.suppress(RuntimeError):
            return self._store.read(_FAILED)
        return None

    def _leave(self, trainer: pl.Trainer, change: str) -> None:
        """Become the resumed run. Never returns unless it fails; then another thread that waits here tries again."""
        with self._door:
            if self._store.is_open:
                self._wait_for_all(trainer.world_size)
            if isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment):
                _end_ranks_of_lightning(trainer)
            if trainer.is_global_zero:
                self._terminal.say(
                    f"out of GPU memory after step {trainer.global_step}: resuming with {self._described(change)}"
                )
                self._terminal.close()
            _become(self._words(change))

    def _wait_for_all(self, world_size: int) -> None:
        """Announce that this rank leaves, and wait for all: a missing rank would look like a fault."""
        with contextlib.suppress(RuntimeError):  # the first rank, whose process holds the store, has left
            leaving, end = self._store.add(_LEAVING, 1), time.monotonic() + _PATIENCE_S
            while leaving < world_size and time.monotonic() < end:
                time.sleep(_LOOK_EVERY_S)
                leaving = self._store.add(_LEAVING, 0)

    def _described(self, change: str) -> str:
        key, _, value = change.partition("=")
        if key != "trainer.micro_batch_size":
            return change
        steps = self._sizes.global_batch_size // (int(value) * self._sizes.world_size)
        return f"a micro batch of {value} and {steps} accumulation steps"

    def _words(self, change: str) -> list[str]:
        """Return the command line: the run from its last checkpoint, or from its beginning if there is none."""
        if self._run.last.is_file():
            return [*TRUST.words, f"resume={json.dumps(str(self._run.path))}", change]
        os.environ[BEGUN_FOLDER] = str(self._run.path)
        return [*TRUST.words, "--from", str(self._run.config), change]


def _end_ranks_of_lightning(trainer: pl.Trainer) -> None:
    """End the ranks that a node's first rank has started as its children; it will start them again."""
    if trainer.local_rank != 0:
        os._exit(0)
    WATCH.stop()
    for child in getattr(trainer.strategy.launcher, "procs", ()):
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_PATIENCE_S)
        if child.poll() is None:
            child.kill()
            child.wait()
    for name in ("LOCAL_RANK", "WORLD_SIZE", *(("MASTER_PORT",) if trainer.num_nodes == 1 else ())):
        os.environ.pop(name, None)


def _become(words: Sequence[str]) -> None:
    """Run `convoy train`, or `convoy slurm rank` in a job, in place of this program."""
    verb = ["slurm", "rank", "--"] if reports.START in os.environ else ["train"]
    # Whatever is open, the GPU among it, ends with this program.
    opened = Path("/proc/self/fd")
    for path in opened.iterdir() if opened.is_dir() else ():
        with contextlib.suppress(OSError):  # the listing's own
            os.set_inheritable(int(path.name), int(path.name) <= 2)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "convoy.commands.main", *verb, *words])
