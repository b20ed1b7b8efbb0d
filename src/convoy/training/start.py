"""Start of a run from the words of a command line: everything before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.runtime.allocator_settings import use_allocator
from convoy.runtime.cpu_cores import CoreTimes, Imports
from convoy.runtime.garbage_collection import collect_as_usual, without_collector
from convoy.training import preflight
from convoy.training.resume import Resumed, is_resume, resume

if TYPE_CHECKING:
    from convoy.training.run import Outcome


@dataclass(frozen=True)
class Start:
    """A new run or a resumed one, whose config is checked.

    Attributes:
        config: config of the run.
        overrides: overrides of the command line.
        resumed: run to resume; None for a new one.
    """

    config: Config
    overrides: list[str]
    resumed: Resumed | None = None

    @staticmethod
    def read(overrides: Sequence[str], options: Options | None = None, saved: Path | None = None) -> Start:
        """Compose and check the config of a run. Imports no torch.

        Args:
            overrides: overrides of the command line.
            options: folders of the options.
            saved: file with a resolved config that replaces the composed one.

        Raises:
            UserError: with every fault that can be found without torch.
        """
        resumed = resume(overrides, options) if is_resume(overrides) else None
        config = resumed.config if resumed else preflight.read(overrides, options, saved)
        preflight.check_launch(config)
        return Start(config, list(overrides), resumed)

    def run(self, *, restarts: bool) -> Outcome:
        """Train the run to its end.

        Args:
            restarts: whether this process may restart itself with a smaller micro batch when a GPU runs out of memory.

        Raises:
            UserError: a fault that only shows with torch, the data or the checkpoint at hand.
        """
        self.apply_environment()
        # From here on torch is needed, which takes seconds to import: long enough to see what else the machine does.
        since = CoreTimes.now()
        # These make 700,000 objects that stay; looking through them for garbage takes a fifth of that time.
        with without_collector():
            from convoy.training.run import train

            collect_as_usual()
        if Imports.are_done and self.config.hardware.cpu_threads is None:
            since.wait()
        return train(self.config, self.overrides, self.resumed, restarts=restarts, since=since)

    def apply_environment(self) -> None:
        """Set the environment variables of the run that torch reads when it is imported."""
        use_allocator(self.config.hardware)
        if self.config.debug.profile_steps:
            os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # otherwise its profiler prints
