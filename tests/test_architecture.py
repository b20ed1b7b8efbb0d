"""The layout shows the architecture: imports run one way, and what must be quick imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "convoy"

BELOW = {
    "config": set(),
    "models": {"config"},
    "data": {"config"},
    "optim": {"config"},
    "ledger": {"config"},
    "cluster": {"config"},
    "planner": {"config", "models", "data", "optim", "ledger"},
    "training": {"config", "models", "data", "optim", "ledger", "cluster", "planner"},
    "deploy": {"config", "models", "data", "training"},
    "report": {"config", "models", "data", "training", "deploy"},
    "commands": {
        "config",
        "models",
        "data",
        "optim",
        "ledger",
        "cluster",
        "planner",
        "training",
        "deploy",
        "report",
    },
}
"""The rooms that each room may import besides itself."""

MODULES = sorted(SOURCE.rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        rooms |= {name.split(".")[1] for name in names if name.startswith("convoy.")}
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_the_rooms_below_it(path: Path) -> None:
    room = path.relative_to(SOURCE).parts[0]
    if room.endswith(".py"):
        assert imported_rooms(path) == set()
    else:
        assert imported_rooms(path) <= BELOW[room] | {room}


def test_every_folder_is_a_room() -> None:
    assert {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(BELOW)


def test_no_module_is_a_drawer_for_everything_or_longer_than_a_reader_can_hold() -> None:
    for path in MODULES:
        assert path.stem not in ("utils", "helpers", "common", "misc")
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path


@pytest.mark.parametrize("room", ["config", "cluster"])
def test_a_room_that_answers_at_once_imports_no_torch(room: str) -> None:
    modules = [f"convoy.{room}.{path.stem}" for path in (SOURCE / room).glob("*.py") if path.stem != "__init__"]
    code = f"import sys, importlib\n[importlib.import_module(m) for m in {modules!r}]\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
