"""Cards: typed facts in YAML, which change nothing of what is composed or built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from convoy.config.cards import DataCard, ExperimentCard, HardwareCard, ModelCard, read_cards
from convoy.config.compose import compose
from convoy.config.faults import UserError
from convoy.config.options import Options

CARD = """\
name: mine
_target_: convoy.models.chain.Chain
layers: ["FC-{num_classes}"]
card:
  title: Mine
  family: own
  idea: One layer
  parameters: 10
  macs: 10
  in_channels: 1
  image_size: 8
  num_classes: 10
"""


def options(tmp_path: Path, text: str) -> Options:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(text)
    return Options(tmp_path)


def test_cards_are_no_part_of_a_composed_config() -> None:
    config = OmegaConf.to_container(
        compose(["model=vgg16", "data=cifar10", "hardware=a100", "experiment=cifar10_resnet18"])
    )
    assert isinstance(config, dict)
    assert "card" not in config
    assert "card" not in config["model"]
    assert "card" not in config["data"]
    assert "card" not in config["hardware"]


def test_a_card_in_a_user_folder_is_read(tmp_path: Path) -> None:
    card = read_cards(ModelCard, options(tmp_path, CARD))["mine"]
    assert (card.title, card.family, card.parameters, card.published, card.paper) == ("Mine", "own", 10, [], None)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("parameters: 10", "parameters: ten", "card.parameters=ten: must be a whole number; write a number"),
        ("  title: Mine\n", "", "card.title: must be set; write title: …"),
        ("  idea:", "  iddea:", "card.iddea=One layer: no such key; did you mean idea?"),
        ("  idea: One layer", "  idea: 1", "card.idea=1: must be text"),
        ("num_classes: 10", "num_classes: 10\n  published: 3", "card.published=3: must be a list"),
        (
            "num_classes: 10",
            "num_classes: 10\n  published: [{data: imagnet, top1: 1, image_size: 8, source: me}]",
            "card.published[0].data=imagnet: is not a data set with published accuracies; did you mean imagenet?",
        ),
        (
            "num_classes: 10",
            "num_classes: 10\n  published: [{data: mnist, image_size: 8, source: me}]",
            "card.published[0]: must have either top1 or error",
        ),
        (
            "num_classes: 10",
            "num_classes: 10\n  published: [{data: mnist, top1: 101, image_size: 8, source: me}]",
            "card.published[0]=101: must be in percent, 0 to 100",
        ),
    ],
)
def test_a_wrong_card_is_reported_with_file_and_key(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in CARD
    with pytest.raises(UserError) as caught:
        read_cards(ModelCard, options(tmp_path, CARD.replace(before, after)))
    assert f"model/mine.yaml: {message}" in str(caught.value)


@pytest.mark.parametrize("kind", [DataCard, HardwareCard, ExperimentCard])
def test_all_shipped_cards_match_the_schema(kind: Any) -> None:
    read_cards(kind)


def test_data_and_experiment_cards_agree_with_the_configs() -> None:
    for name, card in read_cards(DataCard).items():
        assert compose([f"data={name}"]).data.num_classes == card.num_classes
    for name, hardware in read_cards(HardwareCard).items():
        # The driver keeps a part of the nominal memory.
        assert 0.9 < compose([f"hardware={name}"]).hardware.usable_bytes / (hardware.memory_gb * 2**30) < 1
    cards = read_cards(ExperimentCard)
    assert set(cards) == set(Options().of("experiment"))
    for name, experiment in cards.items():
        assert f"experiment={name}" in experiment.commands[0]
        assert experiment.expected or experiment.measured
