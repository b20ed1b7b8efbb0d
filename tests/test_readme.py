"""Every command of the README is run: a train or a sweep composes and is checked, the rest really happens."""

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
from tests.conftest import FASHION_MNIST, TINY, Run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
OPTIONS = re.findall(r"```yaml\n# (\S+)\n(.*?)```", README, re.DOTALL)
LINES = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
MAKE = [line for line in LINES if line.startswith("make ")]
TRAIN = [line for line in LINES if line.startswith(("python train.py", "convoy train", "convoy lr"))]
LEDGER = [line for line in LINES if line.startswith("convoy ledger ")]
PLAN = [line for line in LINES if line.startswith("convoy plan ")]
OTHER = [line for line in LINES if line not in MAKE + TRAIN + LEDGER + PLAN]
PLANNER_PAGE = re.findall(
    r"^convoy plan [^\n]*", (ROOT / "docs" / "planner.md").read_text(encoding="utf-8"), re.MULTILINE
)
LEDGER_PAGE = re.findall(
    r"^convoy ledger [^#>\n]*", (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8"), re.MULTILINE
)
OWN = "convoy train --config-dir mine model=tiny data=flowers hardware=lab"


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


@pytest.mark.parametrize("line", [line for line in TRAIN if line != OWN])
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
def test_other_documented_commands_run(line: str, convoy: Callable[..., Run]) -> None:
    verbs = ("evaluate", "export", "predict", "probe", "filters", "report", "compare", "models", "data", "runs")
    assert line.split()[1] in verbs
    named = re.findall(r"outputs/\w+", line) or [None]
    for folder in named:
        assert convoy("train", *TINY, "trainer.max_steps=2", folder=folder).code == 0
    Path("images").mkdir()
    Image.new("L", (8, 8)).save("images/1.png")
    done = convoy(*shlex.split(line.replace("images/*.png", "images/1.png"))[1:])
    assert done.code == 0, done.err


@pytest.mark.parametrize("line", LEDGER)
def test_the_ledger_is_that_of_vgg16_as_published(line: str, convoy: Callable[..., Run]) -> None:
    done = convoy(*shlex.split(line)[1:])
    assert done.code == 0, done.err
    assert "138,357,544" in done.out  # torchvision's num_params of its VGG16


@pytest.mark.parametrize("line", [*PLAN, *PLANNER_PAGE])
def test_a_plan_is_of_the_model_that_is_named(line: str, convoy: Callable[..., Run]) -> None:
    done = convoy(*shlex.split(line)[1:])
    assert done.code == 0, done.err
    assert re.search(r"resnet50|vgg16", done.out)


@pytest.mark.parametrize("line", LEDGER_PAGE)
def test_a_command_of_the_ledgers_page_prints_one(line: str, convoy: Callable[..., Run]) -> None:
    done = convoy(*shlex.split(line)[1:])
    assert done.code == 0, done.err
    assert "vgg16" in done.out or "resnet50" in done.out


def test_user_options_compose_and_train(convoy: Callable[..., Run], tmp_path: Path) -> None:
    assert OWN in TRAIN
    photographs = tmp_path / "photographs"
    for species in ("aster", "lily"):
        (photographs / "train" / species).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (160, 150), (25 * number, 80, 10)).save(photographs / "train" / species / f"{number}.jpg")
    for name, text in OPTIONS:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("/data/flowers", str(photographs)), encoding="utf-8")
    mine = {"mine/model/tiny.yaml", "mine/data/flowers.yaml", "mine/hardware/lab.yaml"}
    assert {name for name, _ in OPTIONS} == {"conf/model/mynet.yaml", *mine}

    given = parse(words_of(OWN))
    config = read(given.overrides, given.options)
    assert (config.hardware.gpus_per_node, config.hardware.precision) == (2, "bf16-mixed")

    short = ["trainer.max_steps=2", "trainer.global_batch_size=4", "trainer.gpus=0", "logger=csv", "folder=run"]
    done = convoy("train", *words_of(OWN)[:-1], *short)
    assert done.code == 0, done.err
    assert done.summary()["images"] == {"train": 18, "val": 2, "test": 0}


def test_the_network_of_the_readme_trains(convoy: Callable[..., Run]) -> None:
    modules = re.findall(r"```python\n# (\S+)\n(.*?)```", README, re.DOTALL)
    assert [name for name, _ in modules] == ["mynet.py"]
    option = dict(OPTIONS)["conf/model/mynet.yaml"]
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/mynet.yaml").write_text(option, encoding="utf-8")
    Path("mynet.py").write_text(modules[0][1], encoding="utf-8")
    done = convoy(
        "train", "--config-dir", "conf", "model=mynet", *(word for word in TINY if "layers" not in word), "folder=run"
    )
    assert done.code == 0, done.err
    # A 3x3 convolution of one channel to 16 maps, and 256 features to 10 classes, with biases.
    assert done.summary()["parameters"] == (9 * 16 + 16) + (256 * 10 + 10)


def test_the_figures_are_written() -> None:
    for path in re.findall(r"!\[[^\]]*\]\((\S+)\)", README):
        assert (ROOT / path).is_file()
