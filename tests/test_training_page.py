"""Every command of docs/training.md trains."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TINY, Run

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_a_command_trains(command: str, convoy: Callable[..., Run]) -> None:
    verb, *words = shlex.split(command)[1:]
    if verb == "lr":
        words = [word for word in words if not word.startswith(("model=", "data="))]
    short = ["steps=20"] if verb == "lr" else ["trainer.max_epochs=20", "trainer.max_steps=2", "trainer.test=false"]
    tiny = [word for word in TINY if "layers" not in word or "model.stochastic_depth=0.2" not in words]
    done = convoy(verb, *words, *tiny, *short)
    assert done.code == 0, done.err
