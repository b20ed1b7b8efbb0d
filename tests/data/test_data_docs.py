"""Tests that run the commands of docs/data.md."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tests.conftest import TINY, Run

from convoy.config.data_schema import DataConfig
from convoy.data.datasets.torchvision_sets import SETS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL))
SHORT = ["data.image_size=32", "data.eval_resize=32", "trainer.max_steps=2", "trainer.global_batch_size=4"]


def write_flowers(folder: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features
    from datasets import Image as ImageFeature

    names = ["daisy", "tulip"]
    pixels = [Image.new("RGB", (40, 36), (number * 10, 90, 9)) for number in range(20)]
    features = Features({"picture": ImageFeature(), "species": ClassLabel(names=names)})
    flowers = Dataset.from_dict({"picture": pixels, "species": [0, 1] * 10}, features=features)
    DatasetDict(train=flowers).save_to_disk(folder / "flowers")
    flowers.to_parquet(folder / "flowers" / "train.parquet")


@pytest.mark.parametrize("command", COMMANDS.splitlines(), ids=lambda command: shlex.split(command)[-1])
def test_the_commands_of_the_page_run(
    command: str, convoy: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    lines = ["file,species,habitats,length,weight"]
    (tmp_path / "images").mkdir()
    for number in range(20):
        Image.new("RGB", (40, 36), (number * 10, 90, 9)).save(tmp_path / "images" / f"{number}.jpg")
        habitats = "river|lake" if number % 3 else "sea"
        lines.append(f"{number}.jpg,{'pike' if number % 2 else 'carp'},{habitats},{number / 2},{number + 3}")
    if "huggingface" in command:
        write_flowers(tmp_path)
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    if command.startswith("convoy data "):
        done = convoy(*shlex.split(command)[1:])
        assert done.code == 0, done.err
        assert "2 classes, 20 images" in done.out
        return
    short = [word for word in SHORT if "data=digits" not in command or not word.startswith("data.")]
    done = convoy(*shlex.split(command)[1:], *[word for word in TINY if not word.startswith("model")], *short)
    assert done.code == 0, done.err
    sizes = {"data.fold=": "16 train, 4 val", "data=digits": "1,294 train, 144 val"}
    assert next((size for word, size in sizes.items() if word in command), "18 train, 2 val") in done.out


def test_the_yaml_of_the_page_has_known_keys() -> None:
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        settings = yaml.safe_load(block)
        settings.pop("defaults", None)
        assert vars(DataConfig(**settings))


def test_the_page_names_all_sets_of_torchvision() -> None:
    (names,) = re.findall(r"The sets are (.*?)\.", PAGE, re.DOTALL)
    assert re.split(r",\s+|\s+and\s+", names) == list(SETS)
