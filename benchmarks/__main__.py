"""All CPU benchmarks in sequence, with a table of their results (`make bench`).

python -m benchmarks --markdown table.md
python -m benchmarks startup step_overhead      run two of them
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from benchmarks import (
    augmentation,
    folder_loader,
    ledger_time,
    lightning_overhead,
    optimizer_step,
    page_time,
    planner_accuracy,
    precision,
    run_list,
    search_filter,
    shards,
    startup,
    step_overhead,
)
from benchmarks.results import Result, markdown, table
from benchmarks.rounds import machine

BENCHMARKS: dict[str, Callable[[Sequence[str]], list[Result]]] = {
    "startup": startup.main,
    "augmentation": augmentation.main,
    "folder_loader": folder_loader.main,
    "shards": shards.main,
    "step_overhead": step_overhead.main,
    "lightning_overhead": lightning_overhead.main,
    "precision": precision.main,
    "optimizer_step": optimizer_step.main,
    "ledger_time": ledger_time.main,
    "planner_accuracy": planner_accuracy.main,
    "page_time": page_time.main,
    "run_list": run_list.main,
    "search_filter": search_filter.main,
}


def main(words: Sequence[str] | None = None) -> None:
    """Run the named benchmarks, or all of them, with their default settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table to a file")
    given = parser.parse_args(words)
    if unknown := sorted(set(given.names) - set(BENCHMARKS)):
        parser.error(f"{unknown[0]}: no such benchmark; choose from {', '.join(BENCHMARKS)}")
    here = machine("torch", "torchvision", "pytorch-lightning", "torchmetrics", "pillow", "simplejpeg")
    began, found = time.perf_counter(), []
    for name in given.names or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        start = time.perf_counter()
        found += [(name, result) for result in BENCHMARKS[name]([])]
        print(f"took {time.perf_counter() - start:.0f} s", flush=True)
    print(f"\n{here}, {date.today()}; {time.perf_counter() - began:.0f} s in total\n\n{table(found)}")
    if given.markdown is not None:
        given.markdown.write_text(markdown(found, [f"{here}, {date.today()}."]), encoding="utf-8")


if __name__ == "__main__":
    main()
