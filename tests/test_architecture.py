"""The layout shows the architecture: imports run one way, and what must be quick imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "convoy"

FLOORS = (
    {"config"},
    {"runs", "cluster", "models", "data", "optim", "ledger", "runtime"},
    {"tasks"},
    {"planner", "records"},
    {"training"},
    {"evaluation", "export", "search"},
    {"report"},
    {"api"},
    {"commands"},
)
"""Packages from the bottom up. A package imports those below it and those of its own floor, without cycles."""

MODULES = sorted(SOURCE.rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        packages |= {name.split(".")[1] for name in names if name.startswith("convoy.")}
    return packages


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(SOURCE).parts[0]
    if package.endswith(".py"):
        return
    floor = next(number for number, names in enumerate(FLOORS) if package in names)
    assert imported_packages(path) <= set().union(*FLOORS[: floor + 1])


def test_packages_of_one_floor_have_no_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        package = path.relative_to(SOURCE).parts[0]
        graph.setdefault(package, set()).update(imported_packages(path) - {package})
    assert tuple(TopologicalSorter(graph).static_order())


def imported_modules(path: Path) -> set[str]:
    """Return the modules that a module imports, at its top, in its functions and for type checkers."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


def test_modules_have_no_cycles() -> None:
    names = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in MODULES}
    graph = {name: imported_modules(path) & names.keys() for name, path in names.items()}
    assert tuple(TopologicalSorter(graph).static_order())


def test_every_folder_is_a_package() -> None:
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set().union(*FLOORS)


def test_module_names_and_lengths() -> None:
    for path in MODULES:
        assert path.stem not in ("utils", "helpers", "common", "misc")
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path


@pytest.mark.parametrize("package", ["config", "cluster", "runs"])
def test_package_imports_no_torch(package: str) -> None:
    modules = [f"convoy.{package}.{path.stem}" for path in (SOURCE / package).glob("*.py") if path.stem != "__init__"]
    code = f"import sys, importlib\n[importlib.import_module(m) for m in {modules!r}]\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("module", ["commands.slurm", "report.pages.run_page", "report.pages.sweep_page"])
def test_module_imports_no_torch(module: str) -> None:
    """A job's batch step starts and pages are written without the seconds that torch and Lightning take."""
    code = f"import sys, convoy.{module}\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
