"""One part of `python -m benchmarks.gpu`, in its own process.

    python -m benchmarks.gpu.part NAME cuda|cpu FIGURES.json

Each part is a module with a function `figures(device)` that yields names and values. They are written to the file as
soon as they are known, so that a part that is stopped keeps them.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main(name: str, device: str, path: Path) -> None:
    """Run a part and write its figures.

    Args:
        name: module in this package.
        device: cuda or cpu.
        path: JSON file to write.
    """
    found: dict[str, object] = {}
    for key, value in importlib.import_module(f"benchmarks.gpu.{name}").figures(device):
        found[key] = value
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.replace(path)
        print(f"{key}: {value}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
