"""Every command of docs/shards.md is run, in its order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset
from PIL import Image
from tests.conftest import TINY, Run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "shards.md").read_text(encoding="utf-8")
BLOCK, INDEXING = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
SHORT = [word for word in TINY if not word.startswith("model")]


@pytest.mark.slow
def test_the_commands_of_the_page_run(convoy: Callable[..., Run]) -> None:
    for name in ("aster", "lily"):
        Path("photos", name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (60, 50), (20 * number, 90, 9)).save(Path("photos", name, f"{number}.jpg"))
    commands = [line.partition("  #")[0].strip() for line in BLOCK.splitlines()]
    assert {command.split()[1] for command in commands} == {"pack", "train"}
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] == "train":
            words += [*SHORT, "data.image_size=32", "trainer.max_steps=1", "trainer.global_batch_size=4"]
        done = convoy(*words)
        assert done.code == 0, done.err
    assert "18 train, 2 val images" in done.out
    assert Path("raw256/train-000000.u8").stat().st_size == 18 * 256 * 256 * 3


@pytest.mark.slow
def test_the_commands_for_tar_files_of_others_run(convoy: Callable[..., Run]) -> None:
    Path("tars").mkdir()
    with webdataset.TarWriter("tars/train-0.tar") as writer:
        for number in range(20):
            image = Image.new("RGB", (60, 50), (10 * number, 90, 9))
            writer.write({"__key__": f"{number:02}", "jpg": image, "cls": number % 2})
    for command in INDEXING.splitlines():
        words = shlex.split(command)[1:]
        if words[0] == "train":
            words += [*SHORT, "data.image_size=32", "trainer.max_steps=1", "trainer.global_batch_size=4"]
        done = convoy(*words)
        assert done.code == 0, done.err
    assert "18 train, 2 val" in done.out
