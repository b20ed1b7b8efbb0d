"""Completion in real shells, and what answering it imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convoy.commands.completion import complete
from convoy.commands.main import VERBS
from convoy.config.options import Options

BASH = """
source <(convoy completion bash)
COMP_LINE="$1"
COMP_POINT=${#COMP_LINE}
_convoy 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def bash(line: str) -> list[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", line], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_verbs_keys_and_options() -> None:
    assert bash("convoy ") == sorted(VERBS)
    assert bash("convoy train trainer.max_s") == ["trainer.max_steps="]
    # Bash takes what follows "=" for a word.
    assert bash("convoy train model=vgg1") == [name for name in Options().of("model") if name.startswith("vgg1")]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells_are_valid(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    script = subprocess.run(
        [sys.executable, "-m", "convoy", "completion", shell], capture_output=True, text=True, check=True
    ).stdout
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("convoy eva", ["evaluate"]),
        ("convoy evaluate sp", ["split="]),
        ("convoy evaluate split=", ["split=train", "split=val", "split=test"]),
        ("convoy probe lay", ["layer="]),
        ("convoy jobs all=", ["all=true", "all=false"]),
        ("convoy train data=digits opt", ["optimizer="]),
        ("convoy train logger.wandb.pro", ["logger.wandb.project="]),
        ("convoy train data.augment.fl", ["data.augment.flip="]),
        ("convoy train logger=[csv,te", ["logger=[csv,tensorboard"]),
        ("convoy train -m model=vgg16,lenet", ["model=vgg16,lenet5"]),
        ("convoy nosuch mod", []),
        ("convoy train model='", []),
    ],
)
def test_words_that_complete_a_line(line: str, expected: list[str]) -> None:
    assert complete(line) == expected


def test_options_of_a_folder_are_completed(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mynet.yaml").touch()
    assert complete(f"convoy train --config-dir {tmp_path} model=myn") == ["model=mynet"]


def test_an_answer_imports_nothing_heavy() -> None:
    code = "import sys\nfrom convoy.commands.main import main\nmain(['completion', 'words', 'convoy train model=v'])\n"
    code += "print(*{'torch', 'hydra', 'omegaconf', 'rich', 'numpy', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
    assert "model=vgg16" in done.stdout
