"""Training of a run from Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.api.calls import options_of, undisturbed, words_of
from convoy.config.faults import Fault, UserError
from convoy.report.pages.page_at_end import print_page
from convoy.runs.layout import new_name
from convoy.runtime.stop_signals import StopSignal
from convoy.training.start import Start

if TYPE_CHECKING:
    from convoy.config.options import Options


def trained(words: Sequence[str], config_dir: str | Path | None) -> tuple[Path, int]:
    """Train a run to its end, as `convoy train` with these words does; return its folder and the exit code."""
    from convoy.training.out_of_memory_errors import is_out_of_memory

    options = options_of(config_dir)
    start = Start.read(words_of(words), options)
    try:
        with undisturbed(start.apply_environment):
            try:
                return _in_ranks(start, options) if _num_ranks(start) > 1 else _here(start)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                remedy = "halve it; convoy train does so by itself"
                raise UserError(Fault("trainer.micro_batch_size", "does not fit into memory", remedy)) from error
    finally:
        if start.resumed is not None:
            start.resumed.lock.release()


def _here(start: Start) -> tuple[Path, int]:
    outcome = start.run(restarts=False)
    print_page(start.config, outcome)
    return outcome.run.path, outcome.exit_code


def _num_ranks(start: Start) -> int:
    from convoy.runtime.devices import choose

    return choose(start.config).world_size


def _in_ranks(start: Start, options: Options) -> tuple[Path, int]:
    """Train in a process that starts the ranks, and print its output; return the folder and the exit code."""
    config, words = start.config, list(start.overrides)
    if start.resumed is not None:
        folder = start.resumed.run.path
        start.resumed.lock.release()
    elif config.folder is not None:
        folder = Path(config.folder).absolute()
    else:
        folder = (Path(config.output_root) / config.name / new_name()).absolute()
        words.append(f"folder={json.dumps(str(folder))}")
    flags = ["--config-dir", str(options.folder)] if options.folder else []
    command = [sys.executable, "-m", "convoy.commands.main", "train", *flags, *words]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        start_new_session=True,  # a Ctrl-C of the terminal is passed on once, below
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while True:
            try:
                for line in process.stdout:
                    lines.append(line)
                    print(line, end="", flush=True)
                break
            except StopSignal as stop:
                process.send_signal(stop.number)
            except BaseException:
                process.send_signal(signal.SIGTERM)
                raise
    code = process.returncode
    if code == 2:
        text = next((line for line in reversed(lines) if line.startswith("error: ")), "see its output")
        raise UserError(Fault("convoy train", text.removeprefix("error: ").strip()))
    return folder, 128 - code if code < 0 else code
