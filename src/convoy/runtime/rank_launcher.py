"""Start of a machine's other ranks by its first rank, and their end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from convoy.runtime.rank_watch import PARENT, WATCH, Peer
from convoy.runtime.ranks import end_process_group

_END_S = 30.0
"""Time for the other ranks to end by themselves after the run."""

_TIMEOUT = timedelta(days=1)
"""Time limit of collective operations between monitored ranks; long, since a slow rank is not a lost one."""


class RankLauncher(_SubprocessScriptLauncher):
    """Launcher that monitors the ranks with `rank_watch`; Lightning's launcher kills all ranks when one has failed."""

    def launch(self, function: Callable[..., Any], *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any) -> Any:
        """Start the other ranks, unless they are running, and call a function."""
        if not self.cluster_environment.creates_processes_externally:
            with _as_parent():
                self._call_children_scripts()
            peers = [Peer(index + 1, process.pid, process.poll) for index, process in enumerate(self.procs)]
            WATCH.follow_ranks(peers, self.kill_ranks)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def kill_ranks(self) -> None:
        """Kill the other ranks and wait for their end."""
        for process in self.procs:
            process.kill()
        for process in self.procs:
            process.wait()

    def wait_for_ranks(self) -> None:
        """Wait until the other ranks have ended; kill them if they do not."""
        try:
            for process in self.procs:
                process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill_ranks()


class RankStrategy(DDPStrategy):
    """Data-parallel strategy that starts ranks with `RankLauncher`, unless a scheduler or torchrun starts them."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        if isinstance(self.cluster_environment, LightningEnvironment):
            self._timeout = _TIMEOUT
        if not self.cluster_environment.creates_processes_externally:
            self._launcher = RankLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


def end_ranks(trainer: pl.Trainer, *, agreed: bool) -> None:
    """Leave the process group, and end the ranks that this process has started.

    Args:
        trainer: Trainer of the run.
        agreed: True if all ranks end by themselves.
    """
    WATCH.stop()
    launcher = trainer.strategy.launcher
    own = launcher if isinstance(launcher, RankLauncher) else None
    if own and not agreed:
        own.kill_ranks()
    end_process_group()
    if own and agreed:
        own.wait_for_ranks()


@contextmanager
def _as_parent() -> Iterator[None]:
    """Declare this process as the parent of processes started in the context."""
    before = os.environ.get(PARENT)
    os.environ[PARENT] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(PARENT)
        if before is not None:
            os.environ[PARENT] = before
