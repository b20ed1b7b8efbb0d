"""What a ledger takes after the imports: seconds, and growth of the process's memory, each model in a process.

A ledger holds no weights and no activations: its memory is set against that of the weights alone.

    python -m benchmarks.ledger_time
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

BOUNDS_S = {"vgg16": 0.3, "resnet18": None, "resnet50": None, "resnet152": 2.0}
"""Seconds that a model may take."""

BOUND_GROWTH_MIB = 100.0


def resident_mib() -> float:
    """Memory of this process that lies in RAM, in MiB (Linux: proc(5), VmRSS)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def measure(model: str) -> None:
    """Print seconds, growth and bytes of the weights of one model's ledger, from its config to its table."""
    import torchvision  # noqa: F401  (an import of the model's, not the ledger's work)

    from convoy.ledger.texts import csv_text
    from convoy.training.ledgers import ledger_of
    from convoy.training.preflight import read

    config = read([f"model={model}", "data=imagenet"], to_run=False)
    before = resident_mib()
    began = time.perf_counter()
    ledger = ledger_of(config)
    text = csv_text(ledger)
    seconds = time.perf_counter() - began
    print(seconds, resident_mib() - before, ledger.state.param_bytes / 2**20, len(text.splitlines()) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="the least of so many processes counts")
    parser.add_argument("--measure", metavar="MODEL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure)
        return
    print(f"{'model':<10} {'rows':>5} {'seconds':>8} {'bound':>6} {'growth':>10} {'bound':>8} {'weights':>10}")
    command = [sys.executable, "-m", "benchmarks.ledger_time", "--measure"]
    for model, bound in BOUNDS_S.items():
        results = []
        for _ in range(given.rounds):
            done = subprocess.run([*command, model], capture_output=True, text=True, check=True)
            results.append([float(word) for word in done.stdout.split()])
        seconds = min(result[0] for result in results)
        growth = max(result[1] for result in results)
        print(
            f"{model:<10} {results[0][3]:>5.0f} {seconds:>8.3f} {bound or '–':>6} {growth:>6.1f} MiB"
            f" {BOUND_GROWTH_MIB:>4.0f} MiB {results[0][2]:>6.1f} MiB"
        )


if __name__ == "__main__":
    main()
