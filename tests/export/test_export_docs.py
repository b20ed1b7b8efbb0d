"""Every command of docs/export.md is run, in its order."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Run
from tests.export.conftest import Trained

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
(BLOCK,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
def test_the_commands_of_the_page_run(convoy: Callable[..., Run], trained: Trained) -> None:
    pytest.importorskip("onnxscript")
    shutil.copytree(trained.folder, "outputs/lenet5/run")
    Path("images").mkdir()
    for path in trained.images[:3]:
        shutil.copy(path, "images")
    commands = [line.partition("  #")[0].strip() for line in BLOCK.splitlines()]
    assert {command.split()[1] for command in commands} == {"export", "predict"}
    for command in commands:
        words = shlex.split(command.replace("images/*.png", " ".join(map(str, sorted(Path("images").glob("*.png"))))))
        done = convoy(*words[1:])
        assert done.code == 0, done.err
        assert done.out
