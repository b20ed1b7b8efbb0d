"""Commands of docs/tasks.md."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import TINY, Run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def labels() -> None:
    """Write 40 images of two species with two labels and a size each."""
    generator, rows = np.random.default_rng(1), ["file,species,round,red,size"]
    for number in range(40):
        species, is_round = number % 2, number % 3 == 0
        pixels = generator.integers(0, 99, (32, 32, 3)) + 100 * species
        Image.fromarray(pixels.astype(np.uint8)).save(f"{number}.png")
        rows.append(f"{number}.png,{'ab'[species]},{int(is_round)},{species},{0.5 + species}")
    Path("labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("labels")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_trains(command: str, convoy: Callable[..., Run]) -> None:
    words = shlex.split(command)[2:]
    tiny = [word for word in TINY if "model.layers" not in word or "data=table" not in words]
    more = ["trainer.global_batch_size=8", "data.image_size=32"] if "data=table" in words else []
    done = convoy("train", *words, *tiny, *more, "trainer.max_epochs=2")
    assert done.code == 0, done.err
    summary = done.summary()
    assert summary["status"] == "finished"
    assert isinstance(summary[summary["monitor"]], float)
