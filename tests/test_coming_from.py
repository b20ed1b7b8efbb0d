"""Commands of docs/coming_from.md compose or run, but convoy index, which tests/commands/test_shards_docs.py runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from convoy.commands.declaration.arguments import parse
from convoy.config.sweep_points import points
from convoy.training.preflight import read
from tests.conftest import TINY, Run

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "coming_from.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"`(convoy [^`]+)`", PAGE)))
COMPOSED = [line for line in COMMANDS if line.split()[1] in ("train", "lr", "submit") and "resume=" not in line]
RUN = [line for line in COMMANDS if line not in COMPOSED and line.split()[1] != "index"]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    for species in ("aster", "lily"):
        (folder / "train" / species).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(folder / "train" / species / "1.jpg")
    return folder


@pytest.mark.parametrize("line", [line for line in COMPOSED if "/data/index" not in line])
def test_a_training_command_composes_and_passes_every_check(line: str, photographs: Path) -> None:
    given = parse(shlex.split(line.replace("/data/photos", str(photographs)))[2:])
    for overrides in points(given.overrides) if given.multirun else [given.overrides]:
        read(overrides, given.options, to_run=False)


@pytest.mark.parametrize("line", RUN)
def test_other_commands_run(line: str, convoy: Callable[..., Run]) -> None:
    if line.split()[1] not in ("models", "ledger"):
        assert convoy("train", *TINY, "trainer.max_steps=2", folder=None).code == 0
    Path("images").mkdir()
    Image.new("L", (8, 8)).save("images/1.png")
    more = ["trainer.max_steps=4"] if "resume=" in line else []
    done = convoy(*shlex.split(line.replace("images/*.png", "images/1.png"))[1:], *more)
    assert done.code == 0, done.err
