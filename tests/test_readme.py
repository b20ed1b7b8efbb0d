"""Every command of the README is run: a train or a sweep composes and is checked, the rest really happens."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from convoy.config.sweep import points
from convoy.training.preflight import read
from tests.conftest import FASHION_MNIST, TINY, Run

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
LINES = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
MAKE = [line for line in LINES if line.startswith("make ")]
TRAIN = [line for line in LINES if line.startswith(("python train.py", "convoy train"))]
OTHER = [line for line in LINES if line not in MAKE + TRAIN]


def words_of(line: str) -> list[str]:
    words = shlex.split(line)
    return words[2:]


@pytest.mark.parametrize("line", MAKE)
def test_a_make_target_exists_and_its_overrides_compose(line: str) -> None:
    words = shlex.split(line)[1:]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE)
    for word in words[1:]:
        name, _, value = word.partition("=")
        assert name == "ARGS"
        read(value.split())


@pytest.mark.parametrize("line", TRAIN)
def test_a_training_command_composes_and_passes_every_check(line: str, convoy: Callable[..., Run]) -> None:
    words = words_of(line)
    if "--help" in words:
        assert convoy("train", *words, folder=None).code == 0
    elif "resume=latest" in words:
        assert convoy("train", *TINY, "trainer.max_steps=2", folder=None).code == 0
        assert convoy("train", *words, "trainer.max_steps=4").code == 0
    elif words[0] == "-m":
        for point in points(words[1:]):
            read(point)
    else:
        config = read(words)
        assert config.data.source != "fashion_mnist" or config.data.root is None or FASHION_MNIST.is_dir()


@pytest.mark.parametrize("line", OTHER)
def test_another_command_does_what_it_says(line: str, convoy: Callable[..., Run]) -> None:
    assert line.startswith("convoy evaluate ")
    assert convoy("train", *TINY, "trainer.max_steps=2", folder=None).code == 0
    done = convoy(*shlex.split(line)[1:])
    assert done.code == 0, done.err
