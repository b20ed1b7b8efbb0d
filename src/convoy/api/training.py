"""Training of a run from Python."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.api.calls import alone, deliver, options_of, undisturbed
from convoy.api.errors import RunError
from convoy.api.run_object import Run
from convoy.config.faults import Fault, UserError
from convoy.report.pages.page_at_end import print_page
from convoy.runs.records import read_summary
from convoy.runtime.stop_signals import StopSignal
from convoy.training.start import Start

if TYPE_CHECKING:
    from convoy.config.options import Options


def train(*overrides: str, config_dir: str | Path | None = None) -> Run:
    """Train, validate and test a run, as `convoy train` does.

    A run of one process is trained in this process, and a run of several ranks by a process `convoy train`. Ctrl-C, or
    the interruption of a notebook's cell, saves a checkpoint and then raises KeyboardInterrupt;
    `convoy.open_run("latest").resume()` continues the run.

    Args:
        overrides: words of `convoy train`, such as `"model=vgg16"`.
        config_dir: folder of options, as in `--config-dir`.

    Returns:
        The finished run.

    Raises:
        UserError: a mistake, with the text of the command; nothing is written.
        RunError: the run began and did not finish.
        KeyboardInterrupt: the run was interrupted.
    """
    with alone():
        options = options_of(config_dir)
        return _trained(Start.read(overrides, options), options)


def resumed(run: Run, overrides: Sequence[str], config_dir: str | Path | None) -> Run:
    """Continue a run. See `Run.resume`."""
    with alone():
        options = options_of(config_dir)
        return _trained(Start.read([f"resume={json.dumps(str(run.path))}", *overrides], options), options)


def _trained(start: Start, options: Options) -> Run:
    """Train a run to its end."""
    from convoy.training.out_of_memory_errors import is_out_of_memory

    try:
        with undisturbed(start.apply_environment):
            try:
                folder, exit_code = _in_ranks(start, options) if _num_ranks(start) > 1 else _here(start)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                remedy = "halve it; convoy train does so by itself"
                raise UserError(Fault("trainer.micro_batch_size", "does not fit into memory", remedy)) from error
    finally:
        if start.resumed is not None:
            start.resumed.lock.release()
    run = Run(folder)
    if exit_code > 128:
        deliver(exit_code - 128)
    elif exit_code:
        raise RunError(run, str(read_summary(folder / "summary.json").get("status", "failed")))
    return run


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
        named = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(3)}"
        folder = (Path(config.output_root) / config.name / named).absolute()
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
