"""Cards: facts about a model, a data set, a GPU or an experiment, in the `card:` block of its YAML file.

Cards are documentation and don't configure anything. They are removed when a config is composed, so that neither the
network nor a run's saved config depends on them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml
from omegaconf import MISSING

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import Options
from convoy.config.schema import Config, HardwareConfig

SEGMENTATION = "segmentation"
"""Family of the networks with logits per pixel."""

SUPER_RESOLUTION = "super-resolution"
"""Family of the networks that return an image."""

POSE = "pose"
"""Family of the networks with a heatmap per key point."""

FAMILIES = (
    "baseline",
    "LeNet to ZFNet",
    "VGG",
    "Inception",
    "ResNet",
    "ResNet for CIFAR",
    "DenseNet",
    "mobile",
    "architecture search",
    SEGMENTATION,
    SUPER_RESOLUTION,
    POSE,
)
"""Families of the networks in conf/model, in the order of lists."""

BENCHMARKS = {"imagenet": "ImageNet", "cifar10": "CIFAR-10", "mnist": "MNIST"}
"""Options of conf/data that published accuracies refer to, with their names."""

_NAMES = {int: "a whole number", float: "a number", str: "text"}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Paper:
    """Publication."""

    authors: str = MISSING
    title: str = MISSING
    year: int = MISSING
    arxiv: str | None = None
    """arXiv identifier, such as 1512.03385."""
    venue: str | None = None
    """Journal or conference of a paper that is not on arXiv."""
    section: str | None = None
    """Section or figure that describes the network or the training."""


@dataclass
class PublishedAccuracy:
    """Published accuracy with its source. Exactly one of `top1` and `error` is set."""

    data: str = MISSING
    """One of `BENCHMARKS`."""
    top1: float | None = None
    """Percentage of images with a correct most probable class."""
    top5: float | None = None
    """Percentage of images with the correct class among the five most probable."""
    error: float | None = None
    """Percentage of images with a wrong most probable class."""
    image_size: int = MISSING
    """Height and width of the images in pixels."""
    source: str = MISSING

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return round((self.top1 if self.top1 is not None else 100 - (self.error or 0)) / 100, 6)


@dataclass
class ModelCard:
    """Facts about a network in conf/model."""

    title: str = MISSING
    family: str = MISSING
    """One of `FAMILIES`, or another name in a file of the user."""
    year: int | None = None
    paper: Paper | None = None
    idea: str = MISSING
    """Main new idea of the network, in one line."""
    note: str | None = None
    """Differences from the paper and other remarks."""
    parameters: int = MISSING
    """Trainable parameters with the input below, auxiliary classifiers included."""
    macs: int = MISSING
    """Multiply-accumulates of a forward pass of one image (1 MAC = 2 FLOPs), auxiliary classifiers excluded."""
    in_channels: int = MISSING
    image_size: int = MISSING
    num_classes: int = MISSING
    min_image_size: int | None = None
    """Side of the smallest image that the network accepts, in pixels; null: not stated."""
    published: list[PublishedAccuracy] = field(default_factory=list)
    """Comparisons use the first accuracy of a data set."""

    def published_on(self, data: str) -> PublishedAccuracy | None:
        """Return the first accuracy published on a data set, or None."""
        return next((each for each in self.published if each.data == data), None)


@dataclass
class DataCard:
    """Facts about a data set in conf/data."""

    title: str = MISSING
    images: str = MISSING
    """Content and format of the images."""
    num_classes: int | None = None
    train: int | None = None
    """Training images, without those held out for validation by default."""
    val: int | None = None
    test: int | None = None
    download_mb: int | None = None
    """Size of the download in MB."""
    paper: Paper | None = None
    url: str | None = None
    licence: str | None = None
    """null: not stated by the authors."""
    location: str | None = None
    """Folders that are searched, and the remedy if the data is in none of them."""
    note: str | None = None


@dataclass
class Measurement:
    """Result of an experiment on a machine."""

    result: str = MISSING
    duration: str = MISSING
    machine: str = MISSING
    torch: str = MISSING
    date: str = MISSING
    """YYYY-MM-DD."""


@dataclass
class ExperimentCard:
    """Facts about an experiment in conf/experiment."""

    title: str = MISSING
    paper: Paper | None = None
    note: str | None = None
    commands: list[str] = field(default_factory=list)
    hardware: str = MISSING
    expected: str | None = None
    """Expected accuracy with its source."""
    measured: Measurement | None = None
    """null: not measured."""


@dataclass
class HardwareCard:
    """Facts about a GPU in conf/hardware."""

    title: str = MISSING
    memory_gb: int = MISSING
    """Nominal memory; the smaller value if there are two variants."""
    tensor_cores: str = MISSING
    """Floating-point types of the tensor cores that training uses; none for a GPU without tensor cores."""
    torch: str | None = None
    """Versions of torch with kernels for the GPU; null: all that Convoy supports."""
    usable_bytes_source: str = MISSING
    context_bytes_source: str = MISSING


@dataclass
class _DataFile(DataConfig):
    """A file of conf/data with its card."""

    card: DataCard | None = None


@dataclass
class _HardwareFile(HardwareConfig):
    """A file of conf/hardware with its card."""

    card: HardwareCard | None = None


@dataclass
class ConfigWithCards(Config):
    """Config with cards, as composed by Hydra before `without_cards`."""

    data: _DataFile = field(default_factory=_DataFile)
    hardware: _HardwareFile = field(default_factory=_HardwareFile)
    card: ExperimentCard | None = None


_Card = TypeVar("_Card", ModelCard, DataCard, HardwareCard, ExperimentCard)
_KINDS: dict[type, str] = {ModelCard: "model", DataCard: "data", HardwareCard: "hardware", ExperimentCard: "experiment"}


def without_cards(composed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a composed config, as plain containers, without its cards."""
    content = {key: value for key, value in composed.items() if key != "card"}
    for group in ("model", "data", "hardware"):
        content[group] = {key: value for key, value in content[group].items() if key != "card"}
    return content


def read_cards(kind: type[_Card], options: Options | None = None) -> dict[str, _Card]:
    """Return the cards of the options of a group by option name, without options that have no card.

    Args:
        kind: ModelCard, DataCard, HardwareCard or ExperimentCard.
        options: folders that are searched.

    Raises:
        UserError: if cards don't match the schema; all are reported.
    """
    group = _KINDS[kind]
    cards: dict[str, _Card] = {}
    faults: list[Fault] = []
    for folder in (options or Options()).folders:
        for path in sorted((folder / group).glob("*.yaml")):
            try:
                card = _read_card(kind, path, f"{group}/{path.name}")
            except UserError as error:
                faults += error.faults
                continue
            if card is not None:
                cards[path.stem] = card
    if faults:
        raise UserError(*faults)
    return cards


def _read_card(kind: type[_Card], path: Path, name: str) -> _Card | None:
    try:
        content = (yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}).get("card")
    except yaml.YAMLError as error:
        where = str(getattr(error, "problem_mark", "")).strip()
        raise UserError(Fault(name, f"is not YAML {where}", "correct the file")) from error
    if content is None:
        return None
    faults: list[Fault] = []
    card = cast(_Card, _read(kind, content, f"{name}: card", faults))
    if faults:
        raise UserError(*faults)
    if isinstance(card, ModelCard):
        _check_published(card, name)
    return card


def _read(kind: Any, value: Any, key: str, faults: list[Fault]) -> Any:
    """Return a value as its annotated type; add a fault for each key that is unknown, missing or of another type."""
    options = get_args(kind)
    if get_origin(kind) is UnionType:
        return None if value is None else _read(options[0], value, key, faults)
    if get_origin(kind) is list:
        if isinstance(value, list):
            return [_read(options[0], item, f"{key}[{index}]", faults) for index, item in enumerate(value)]
        faults.append(Fault(key, "must be a list", "write it in [brackets]", str(value)))
    elif isinstance(kind, type) and is_dataclass(kind):
        if isinstance(value, dict):
            return _read_fields(kind, value, key, faults)
        faults.append(Fault(key, "must be a mapping", f"its keys are {', '.join(_types(kind))}", str(value)))
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif type(value) is kind:
        return value
    else:
        remedy = "write a number" if kind in (int, float) else 'write text, in quotes if it looks like a number ("1")'
        faults.append(Fault(key, f"must be {_NAMES[kind]}", remedy, str(value)))
    return None


def _read_fields(kind: Any, value: dict[str, Any], key: str, faults: list[Fault]) -> Any:
    types = _types(kind)
    for name in value.keys() - types:
        near = did_you_mean(name, types, f"its keys are {', '.join(types)}")
        faults.append(Fault(f"{key}.{name}", "no such key", near, str(value[name])))
    content = {}
    for name, expected in types.items():
        if name in value:
            content[name] = _read(expected, value[name], f"{key}.{name}", faults)
        elif kind.__dataclass_fields__[name].default == MISSING:
            faults.append(Fault(f"{key}.{name}", "must be set", f"write {name}: …"))
    return kind(**content)


@cache
def _types(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _check_published(card: ModelCard, name: str) -> None:
    for index, each in enumerate(card.published):
        key = f"{name}: card.published[{index}]"
        if each.data not in BENCHMARKS:
            near = did_you_mean(each.data, BENCHMARKS, f"choose from {', '.join(BENCHMARKS)}")
            raise UserError(Fault(f"{key}.data", "is not a data set with published accuracies", near, each.data))
        if (each.top1 is None) == (each.error is None):
            raise UserError(Fault(key, "must have either top1 or error", "write one of them, in percent"))
        for value in (each.top1, each.top5, each.error):
            if value is not None and not 0 <= value <= 100:
                raise UserError(Fault(key, "must be in percent, 0 to 100", "correct the value", f"{value:g}"))
