"""Time and memory growth of building a ledger after the imports, with one process per model.

A ledger holds no weights and no activations; the memory of the weights is printed for comparison.

    python -m benchmarks.ledger_time
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import Goal, Result
from benchmarks.rounds import machine

BOUNDS_S = {"vgg16": 0.3, "resnet18": None, "resnet50": None, "resnet152": 2.0}
"""Upper bound in seconds per model; None for no bound."""

BOUND_GROWTH_MIB = 100.0


def resident_mib() -> float:
    """Return the resident memory of this process in MiB (Linux, proc(5): VmRSS)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def measure(model: str) -> None:
    """Print seconds, memory growth in MiB, MiB of the weights and rows of one model's ledger, from config to table."""
    import torchvision  # noqa: F401  (belongs to the model, not to the ledger)

    from convoy.ledger.text_formats import csv_text
    from convoy.planner.config_ledger import ledger_of
    from convoy.training.preflight import read

    config = read([f"model={model}", "data=imagenet"], to_run=False)
    before = resident_mib()
    began = time.perf_counter()
    ledger = ledger_of(config)
    text = csv_text(ledger)
    seconds = time.perf_counter() - began
    print(seconds, resident_mib() - before, ledger.state.param_bytes / 2**20, len(text.splitlines()) - 1)


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="options of conf/model")
    parser.add_argument("--rounds", type=int, default=3, help="processes per model")
    parser.add_argument("--measure", metavar="MODEL", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.measure:
        measure(given.measure)
        return []
    results = []
    print(machine("torch"))
    command = [sys.executable, "-m", "benchmarks.ledger_time", "--measure"]
    for model in given.models or BOUNDS_S:
        figures = []
        for _ in range(given.rounds):
            done = subprocess.run([*command, model], capture_output=True, text=True, check=True)
            figures.append([float(word) for word in done.stdout.split()])
        seconds, growths, weights, _ = zip(*figures, strict=True)
        bound = BOUNDS_S.get(model)
        goal = None if bound is None else Goal(bound, at_least=False)
        results.append(Result("time after the imports", model, None, seconds, goal=goal, unit="s"))
        beside = f"{model}, whose weights are {weights[0]:.0f} MiB"
        most = Goal(BOUND_GROWTH_MIB, at_least=False)
        results.append(Result("growth of memory", beside, None, growths, goal=most, unit="MiB", digits=0))
    for result in results:
        print(result.line())
    return results


if __name__ == "__main__":
    main()
