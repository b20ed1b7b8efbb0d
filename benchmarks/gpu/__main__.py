"""All checks and measurements on a GPU in sequence, with one JSON line per part and a table (`make gpu`).

    python -m benchmarks.gpu --output gpu.jsonl
    python -m benchmarks.gpu --parts default_run synchronization
    python -m benchmarks.gpu --device cpu          the same program on the CPU, with small sizes

Each part runs in a separate process with its own time limit. A part that fails or exceeds its limit keeps the figures
that it has reported, and the next part starts. With `--device cpu`, the figures are meaningless.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

LIMITS_S: Mapping[str, float] = {
    "default_run": 30,
    "marked_tests": 70,
    "synchronization": 80,
    "layer_times": 25,
    "decoding": 30,
    "training_speed": 80,
    "predicted_memory": 60,
    "small_networks": 80,
    "two_ranks": 25,
    "trace": 30,
    "accuracy": 90,
}
"""Parts in the order in which they run, with their time limits in seconds on a GPU."""

TOTAL_S = 540.0
"""Time limit of all parts together, in seconds; a part starts with what is left of it."""

_LEAST_S = 5.0


def main(words: Sequence[str] | None = None) -> int:
    """Run the parts. Returns 0 if all of them succeeded, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--parts", nargs="+", choices=list(LIMITS_S), default=list(LIMITS_S), metavar="PART")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the JSON lines to a file")
    parser.add_argument("--logs", type=Path, default=Path("outputs/gpu"), help="folder of the parts' output")
    given = parser.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device; --device cpu (make gpu DEVICE=cpu) tests that the program runs")
    given.logs.mkdir(parents=True, exist_ok=True)
    end, lines = time.monotonic() + TOTAL_S, []
    for name in given.parts:
        limit = min(LIMITS_S[name] if given.device == "cuda" else TOTAL_S, end - time.monotonic())
        line = _run(name, given.device, limit, given.logs) if limit > _LEAST_S else _not_started(name)
        print(json.dumps(line), flush=True)
        lines.append(line)
        if given.output is not None:
            given.output.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    Console(soft_wrap=True).print(_table(lines))
    return 0 if all(line["status"] == "done" for line in lines) else 1


def _not_started(name: str) -> dict[str, Any]:
    return {"part": name, "status": "not started: no time left", "seconds": 0.0, "figures": {}}


def _run(name: str, device: str, limit_s: float, logs: Path) -> dict[str, Any]:
    """Run a part in a separate process group, and return its status, duration and figures."""
    log = logs / f"{name}.log"
    with tempfile.TemporaryDirectory() as folder, log.open("w", encoding="utf-8") as file:
        figures = Path(folder) / "figures.json"
        program = [sys.executable, "-m", "benchmarks.gpu.part", name, device, str(figures)]
        began = time.monotonic()
        # On a CPU, one thread: only whether the parts work is of interest.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} if device == "cpu" else None
        process = subprocess.Popen(program, stdout=file, stderr=file, env=environment, start_new_session=True)
        try:
            code = process.wait(limit_s)
            status = "done" if code == 0 else f"failed with exit code {code}: {_last_line(log)}"
        except subprocess.TimeoutExpired:
            status = f"stopped after {limit_s:.0f} s"
        finally:
            _end_group(process)
        seconds = round(time.monotonic() - began, 1)
        found = json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {}
    return {"part": name, "status": status, "seconds": seconds, "figures": found}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what a part has left running in its own process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "no output")


def _table(lines: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("part", "figure", "value"):
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(line["part"], "status", f"{line['status']}, {line['seconds']} s")
        for name, value in line["figures"].items():
            table.add_row("", name, f"{value:,.4g}" if isinstance(value, float) else str(value))
    return table


if __name__ == "__main__":
    sys.exit(main())
