"""Completion in real shells, and what answering it imports."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
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


def in_shell(home: Path) -> dict[str, str]:
    """Return an environment in which `convoy` is found and the user's shell configuration is not."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "TERM": "dumb"}


def bash(line: str, home: Path) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", line], env=in_shell(home), capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_verbs_keys_and_options(tmp_path: Path) -> None:
    assert bash("convoy ", tmp_path) == sorted(VERBS)
    assert bash("convoy train trainer.max_s", tmp_path) == ["trainer.max_steps="]
    # Bash takes what follows "=" for a word.
    assert bash("convoy train model=vgg1", tmp_path) == [
        name for name in Options().of("model") if name.startswith("vgg1")
    ]


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish on this machine")
def test_fish_completes_verbs_keys_and_options(tmp_path: Path) -> None:
    script = 'convoy completion fish | source; complete -C "$argv[1]"'

    def fish(line: str) -> list[str]:
        done = subprocess.run(
            ["fish", "--no-config", "-c", script, line],
            env=in_shell(tmp_path),
            capture_output=True,
            text=True,
            check=True,
        )
        return sorted(done.stdout.split())

    assert fish("convoy ev") == ["evaluate"]
    assert fish("convoy train trainer.max_s") == ["trainer.max_steps="]
    assert fish("convoy train model=vgg1") == [f"model={n}" for n in Options().of("model") if n.startswith("vgg1")]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh on this machine")
def test_zsh_completes_a_verb_and_an_option(tmp_path: Path) -> None:
    """In an interactive zsh, a tab completes the line, which then runs."""
    main_end, shell_end = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=shell_end, stdout=shell_end, stderr=shell_end, env=in_shell(tmp_path), cwd=tmp_path
    )
    os.close(shell_end)

    def typed(text: str, until: str) -> str:
        os.write(main_end, text.encode())
        seen, end = "", time.monotonic() + 60
        while until not in seen and time.monotonic() < end:
            if select.select([main_end], [], [], 0.2)[0]:
                seen += os.read(main_end, 4096).decode(errors="replace")
        return seen

    try:
        # The marker is put together by echo, so that the typed line doesn't contain it.
        start = "autoload -Uz compinit; compinit -u -d dump; source <(convoy completion zsh); echo rea''dy\n"
        assert "ready" in typed(start, "ready")
        assert "evaluate" in typed("convoy ev\t", "evaluate")
        assert "vgg11_bn" in typed("\x15convoy train model=vgg11\t\t", "vgg11_bn")
    finally:
        shell.kill()
        shell.wait()
        os.close(main_end)


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
        ("convoy runs cl", ["clean"]),
        ("convoy runs state=failed,q", ["state=failed,queued"]),
        ("convoy runs data=dig", ["data=digits"]),
        ("convoy runs clean ye", ["yes="]),
        ("convoy runs clean state=f", ["state=finished", "state=failed"]),
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
