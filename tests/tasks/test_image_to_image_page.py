"""Commands of docs/image_to_image.md, and a network that learns to enlarge."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from tests.conftest import Run

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
PAGE = (ROOT / "docs" / "image_to_image.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
SMALL = ("model.width=4", "model.blocks=1", "model.depth=2")
"""Settings of the networks on the page that are large."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder of 12 training images, and 3 for val and 2 for test."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for split, count in (("train", 12), ("val", 3), ("test", 2)):
        (tmp_path / "set" / split).mkdir(parents=True)
        for index in range(count):
            left, top = 40 * index, 20 * index
            photos[index % 2].crop((left, top, left + 62, top + 50)).save(tmp_path / "set" / split / f"{index}.png")
    return tmp_path / "set"


def short(root: Path, *words: str) -> list[str]:
    """Give a command of the page a small network and set; an experiment's network is small as it is."""
    model = next((word.partition("=")[2] for word in words if word.startswith("model=")), None)
    option = "" if model is None else (CONF / "model" / f"{model}.yaml").read_text(encoding="utf-8")
    small = [word for word in SMALL if re.search(rf"^{word.partition('=')[0][6:]}:", option, re.MULTILINE)]
    return [
        *[word.replace("FOLDER", str(root)) for word in words],
        *small,
        *("logger=csv", "trainer.gpus=0", "trainer.precision=32", "trainer.max_epochs=2", "hardware.cpu_threads=1"),
        *("trainer.global_batch_size=8", "data.patches_per_image=2", "data.image_size=24"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_trains(command: str, root: Path, convoy: Callable[..., Run]) -> None:
    done = convoy(*short(root, *shlex.split(command)[1:]))
    assert done.code == 0, done.err
    summary = done.summary()
    assert summary["status"] == "finished"
    assert math.isfinite(summary["test/psnr"])


def test_verbs_take_a_run_whose_images_keep_their_sizes(root: Path, convoy: Callable[..., Run]) -> None:
    with Image.open(root / "test" / "1.png") as image:
        image.crop((0, 0, 50, 40)).save(root / "test" / "1.png")
    folder, file = root.parent / "run", root.parent / "network.pt2"
    words = ["data=super_resolution", "data.root=FOLDER", "model=espcn", "data.channels=1", "report=false"]
    done = convoy(*short(root, "train", *words, f"folder={folder}"))
    assert done.code == 0, done.err
    assert convoy("filters", f"run={folder}").code == 0
    done = convoy("export", f"run={folder}", "format=torch_export", f"output={file}")
    assert done.code == 0, done.err
    images = [str(root / "test" / "0.png"), str(root / "test" / "1.png")]
    of_run = convoy("predict", f"run={folder}", *images, "format=jsonl")
    of_file = convoy("predict", f"checkpoint={file}", *images, "format=jsonl")
    assert of_run.code == of_file.code == 0, of_file.err
    sizes = [(record["width"], record["height"]) for record in map(json.loads, of_file.out.splitlines())]
    assert sizes == [(3 * 62, 3 * 50), (3 * 50, 3 * 40)]
    for one, other in zip(of_run.out.splitlines(), of_file.out.splitlines(), strict=True):
        assert json.loads(one)["means"] == pytest.approx(json.loads(other)["means"], abs=1e-5)
    done = convoy("features", f"run={folder}", "layer=layers.0")
    assert done.code == 2
    assert "layer=layers.0: has features of" in done.err
    assert not (folder / "features").exists()
    done = convoy("features", f"run={folder}")
    assert "layer=penultimate: the last layer with weights (layers.4) does not compute the 1 logits; name" in done.err


def test_a_run_is_evaluated_reported_and_planned(root: Path, convoy: Callable[..., Run]) -> None:
    words = short(root, *shlex.split(COMMANDS[0])[1:])
    trained = convoy(*words, "trainer.max_epochs=6")
    assert trained.code == 0, trained.err
    rows = [float(row["val/psnr"]) for row in trained.rows() if row.get("val/psnr")]
    assert len(rows) == 6
    assert rows[-1] > rows[0] + 1
    assert "PSNR" in trained.out
    assert convoy("report", "run=run").code == 0
    assert "SSIM" in (trained.folder / "report.html").read_text(encoding="utf-8")
    worst = json.loads((trained.folder / "mistakes.json").read_text())
    assert worst
    evaluated = convoy("evaluate", "run=run", "split=test")
    assert evaluated.code == 0, evaluated.err
    assert f"{trained.summary()['test/psnr']:.4f}" in evaluated.out
    planned = convoy("plan", *words[1:], "hardware=v100", "data.root=null")
    assert planned.code == 0, planned.err
    assert "peak allocated" in planned.out


def test_the_data_is_inspected_without_its_patches(root: Path, convoy: Callable[..., Run]) -> None:
    done = convoy("data", "data=super_resolution", f"data.root={root}", "output=examples.html")
    assert done.code == 0, done.err
    assert re.search(r"^all +12 +3 +2$", done.out, re.MULTILINE)
    assert "a network trained from scratch" not in done.out
    assert Path("examples.html").is_file()
    record = json.loads(convoy("data", "data=super_resolution", f"data.root={root}", "format=json").out)
    assert record["splits"]["train"] == {"images": 12, "read": 12, "unreadable": {}}


def test_a_network_that_keeps_the_size_is_answered_with_the_key(root: Path, convoy: Callable[..., Run]) -> None:
    done = convoy(*short(root, *shlex.split(COMMANDS[2])[1:]), "data.degradation.enlarge=false")
    assert done.code == 2
    assert "the task expects (1, 3, 72, 72), or an enlarged input (data.degradation.enlarge=true" in done.err
