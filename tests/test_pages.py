"""Every command of docs/features.md, docs/compare.md and docs/report.md is run, in its order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from convoy.config.options import Options
from convoy.config.sweep_points import points
from convoy.evaluation import comparison
from convoy.search.space_words import split_space
from convoy.search.study_config import study_of
from tests.conftest import TINY, Run

DOCS = Path(__file__).resolve().parents[1] / "docs"


def commands_of(page: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


def test_the_page_on_features(convoy: Callable[..., Run]) -> None:
    assert convoy("train", *TINY, folder=None).code == 0
    checkpoint = next(Path("outputs").glob("**/last.ckpt"))
    short = ["logger=csv", "trainer.gpus=0", "trainer.max_steps=2", "trainer.precision=32"]
    for command in commands_of("features.md"):
        words = shlex.split(command.replace("<checkpoint>", str(checkpoint)).replace("model=resnet20", "model=lenet5"))
        if words[1] == "train":
            # The network of the checkpoint, which stands for one that was trained for long.
            words += [*short, TINY[1]]
        done = convoy(*words[1:])
        assert done.code == 0, f"{command}: {done.err}"


@pytest.mark.slow
def test_the_page_on_comparing(convoy: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    # All 59 of ImageNet take a minute, and AlexNet, VGG16 and ResNet-50 six seconds of timing: two and a moment do.
    whole = comparison.chosen
    monkeypatch.setattr(comparison, "chosen", lambda *given: dict(list(whole(*given).items())[:2]))
    monkeypatch.setattr(comparison, "_SPEED_SECONDS", 0.01)
    for folder in ("outputs/a", "outputs/b", None):
        assert convoy("train", *TINY, folder=folder).code == 0
    for command in commands_of("compare.md"):
        text = command.replace("[alexnet,vgg16,resnet50]", "[squeezenet1_0]")
        if "squeezenet" in text:
            monkeypatch.setattr(comparison, "chosen", whole)
        done = convoy(*shlex.split(text)[1:])
        assert done.code == 0, f"{command}: {done.err}"
    assert {path.name for path in Path.cwd().glob("*.png")} == {"zoo.png", "mine.png"}
    assert len(list(Path("outputs").glob("**/activation_maps.png"))) == 1


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_images_in_documentation_pages_exist(page: str) -> None:
    for path in re.findall(r"!\[[^\]]*\]\((\S+)\)", (DOCS / page).read_text(encoding="utf-8")):
        assert (DOCS / path).is_file()


def test_the_page_on_reports(convoy: Callable[..., Run]) -> None:
    assert convoy("train", *TINY, folder=None).code == 0
    (run,) = Path("outputs").glob("*/*/config.yaml")
    for command in commands_of("report.md"):
        # The folder of the run's name, which contains runs, stands for a sweep.
        done = convoy(*shlex.split(command.replace("outputs/sweeps/<sweep>", str(run.parents[1])))[1:])
        assert done.code == 0, f"{command}: {done.err}"
        assert Path(done.out.strip()).read_text().startswith("<!doctype html>")


def test_the_values_on_the_page_on_sweeps() -> None:
    counts = {}
    for command in commands_of("search.md"):
        verb, *words = shlex.split(command, comments=True)[1:]
        if words[0] == "-m":
            counts[command] = len(points([word for word in words if not word.startswith(("-", "workers="))]))
        elif verb == "search" and "interval" in command:
            space, _ = split_space(words, Options())
            assert study_of("search", {"space": space}).space
    assert list(counts.values())[:2] == [4, 4]


@pytest.mark.slow
def test_the_page_on_studies(convoy: Callable[..., Run]) -> None:
    first, second, last = (one for one in commands_of("search.md") if "study=digits" in one or "search resume=" in one)
    short = ("trials=1", "trainer.max_epochs=1", "trainer.gpus=0")
    for command in (first, second.replace("trials=30 ", "")):
        done = convoy(*shlex.split(command)[1:], *short, folder=None)
        assert done.code == 0, f"{command}: {done.err}"
    folder = next(Path("outputs/searches").iterdir())
    done = convoy(*shlex.split(last.replace("outputs/searches/<study>", str(folder)))[1:], "trials=1", folder=None)
    assert done.code == 0, done.err
