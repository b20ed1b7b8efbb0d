"""Commands of docs/cluster.md: submissions are checked and priced, and every named file and target exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.conftest import Run

from convoy.commands.main import VERBS
from convoy.config.cluster_schema import ClusterConfig

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
LINES = [
    line.partition("   #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("convoy submit ")])
def test_a_submit_is_checked_and_priced(
    line: str, convoy: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SBATCH_ACCOUNT", "class_1246")
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "mylab.yaml").write_text(EXAMPLES[0])
    words = [word for word in shlex.split(line)[1:] if word not in ("wait=true", "dry_run=true")]
    done = convoy(*words, "--config-dir", str(tmp_path), "dry_run=true", folder=None)
    assert done.code == 0, done.err
    assert "#SBATCH --gres=gpu:" in done.out
    assert not Path("outputs").exists()


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("sbatch ")])
def test_scripts_in_documentation_exist(line: str) -> None:
    assert [(ROOT / word).is_file() for word in line.split() if word.endswith(".sbatch")] == [True]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make ")])
def test_documented_targets_and_environments_exist(line: str) -> None:
    words = line.split()
    assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for word in words[2:]:
        if word.startswith("TORCH="):
            lock = (ROOT / f"requirements-{word[6:]}.lock").read_text()
            pair = re.search(rf"{word[6:]} = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
            assert pair
            for pin in re.findall(r'"([^"]+)"', pair[1]):
                assert f"\n{pin} " in lock
                assert pin.replace("==", " ") in TEXT


def test_documented_verbs_exist() -> None:
    verbs = {line.split()[1] for line in LINES if line.startswith("convoy ")}
    assert verbs <= set(VERBS)
    assert {"submit", "jobs", "cancel", "slurm"} <= verbs


def test_user_settings_override_the_cluster(
    convoy: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (own,) = re.findall(r"<<'END'\n(.*?)END\n", TEXT, re.DOTALL)
    monkeypatch.delenv("SBATCH_ACCOUNT", raising=False)
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "local.yaml").write_text(own)
    done = convoy("submit", "--config-dir", str(tmp_path), "hardware=a100", "dry_run=true", folder=None)
    assert done.code == 0, done.err
    assert "#SBATCH --account=name_1246\n" in done.out


def test_the_keys_of_the_example_are_the_schemas() -> None:
    assert set(yaml.safe_load(EXAMPLES[0])) <= set(ClusterConfig.__dataclass_fields__)
