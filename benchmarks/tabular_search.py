"""Samplers of architectures on a table of trained networks: the 15,625 cells of NAS-Bench-201 on CIFAR-10.

The accuracies are the `baseline_accuracy` of the package analog-nasbench, which contains them. Nothing is trained.

    pip install --no-deps analog-nasbench
    python -m benchmarks.tabular_search --networks 200 --seeds 10
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.architecture_search import compare
from benchmarks.results import Result
from benchmarks.rounds import machine, threads
from convoy.search.architecture.decisions import Decision, Values

_PACKAGE = "analog-nasbench"
_TABLE = "analognasbench/data.anb"


class TabularSpace:
    """Cells of Dong & Yang 2020 (arXiv:2001.00326): one of five operations on each of six edges."""

    option = ""
    decisions = tuple(Decision(f"edge {edge}", tuple(range(5))) for edge in range(6))

    def decode(self, values: Sequence[int]) -> Mapping[str, Any]:
        """Return nothing: no network is built."""
        return {}

    def used(self, values: Sequence[int]) -> frozenset[int]:
        """Return all decisions."""
        return frozenset(range(len(self.decisions)))

    def text(self, values: Sequence[int]) -> str:
        """Return the operations."""
        return " ".join(map(str, values))


class _Reader(pickle.Unpickler):
    """Reader of a table that creates plain objects in place of the package's classes, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("analognasbench"):
            return type(name, (SimpleNamespace,), {})
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a table")


def table_path() -> Path | None:
    """Return the table of the installed package; None if it is not installed."""
    try:
        found = [path for path in files(_PACKAGE) or () if str(path) == _TABLE]
    except PackageNotFoundError:
        return None
    return Path(str(found[0].locate())) if found else None


def read_table(path: Path) -> dict[Values, float]:
    """Return the accuracy of each cell as a share."""
    with path.open("rb") as file:
        cells = _Reader(file).load()
    return {values: cell.baseline_accuracy / 100 for values, cell in cells.items()}


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=200, help="networks per study")
    parser.add_argument("--seeds", type=int, default=10, help="studies per sampler")
    parser.add_argument("--table", type=Path, default=table_path(), help="the package's data.anb")
    given = parser.parse_args(words)
    print(machine("torch"))
    if given.table is None:
        print(f"skipped, pip install --no-deps {_PACKAGE} has the table")
        return []
    table = read_table(given.table)
    print(f"{len(table):,} cells, the best has {100 * max(table.values()):.2f} %")
    with threads(1):
        return compare(TabularSpace(), table.__getitem__, given.networks, given.seeds)


if __name__ == "__main__":
    main()
