"""A run with batch norm, trained once, and its test set as PNG files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import TINY

from convoy.commands.main import main
from convoy.config.data_schema import DataConfig
from convoy.data.sources.digits import read_digits
from convoy.export import verification


@pytest.fixture(autouse=True)
def _short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are measured, but not for long."""
    monkeypatch.setattr(verification, "_SECONDS", 0.1)


@dataclass(frozen=True)
class Trained:
    """A run's folder, image files of its test split, and their labels."""

    folder: Path
    images: list[str]
    labels: list[int]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Batch norm after convolutions and a linear layer, of which that after ReLU can't be folded."""
    folder = tmp_path_factory.mktemp("trained")
    layers = "model.layers=['CONV3-8 bn',POOL2,'CONV3-16 bn',POOL4,BN,DROPOUT0.3,'FC-32 bn',FC-10]"
    words = [layers if word.startswith("model.layers") else word for word in TINY]
    assert main(["train", *words, "trainer.max_epochs=3", f"folder={folder / 'run'}"]) == 0
    test = read_digits(DataConfig()).test
    paths = []
    for number, image in enumerate(test.images):
        paths.append(str(folder / f"{number:03}.png"))
        Image.fromarray(image[0].numpy(), "L").save(paths[-1])
    return Trained(folder / "run", paths, test.labels.tolist())
