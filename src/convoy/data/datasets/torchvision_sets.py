"""Classification sets of `torchvision.datasets`: splits and numbers of classes. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, did_you_mean

_SPLIT = {"train": "train", "val": "val", "test": "test"}
_TRAIN_TEST = {"train": "train", "test": "test"}
_TRAIN_VAL = {"train": "train", "val": "val"}


@dataclass(frozen=True)
class SetFacts:
    """Splits and classes of a set.

    Attributes:
        num_classes: number of classes, or that number by the value of the argument `variant`.
        splits: value of the argument `split` for each split of Convoy; empty if the set has no splits; None for a set
            with the argument `train`, which is true or false.
        variant: argument that selects one of several sets of classes.
        default: value of `variant` in torchvision; None if it must be given.
    """

    num_classes: int | Mapping[str, int]
    splits: Mapping[str, str] | None
    variant: str | None = None
    default: str | None = None

    def arguments(self, split: str) -> dict[str, str | bool] | None:
        """Return the arguments that select a split, or None if the set does not have it."""
        if self.splits is None:
            return None if split == "val" else {"train": split == "train"}
        if not self.splits:
            return {} if split == "train" else None
        return {"split": self.splits[split]} if split in self.splits else None


_EMNIST = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 27, "digits": 10, "mnist": 10}
_AIRCRAFT = {"variant": 100, "family": 70, "manufacturer": 30}

SETS: dict[str, SetFacts] = {
    "Caltech101": SetFacts(101, {}),
    "Caltech256": SetFacts(257, {}),
    "CIFAR10": SetFacts(10, None),
    "CIFAR100": SetFacts(100, None),
    "Country211": SetFacts(211, {"train": "train", "val": "valid", "test": "test"}),
    "DTD": SetFacts(47, _SPLIT),
    "EMNIST": SetFacts(_EMNIST, None, "split"),
    "EuroSAT": SetFacts(10, {}),
    "FashionMNIST": SetFacts(10, None),
    "FER2013": SetFacts(7, {"train": "train"}),
    "FGVCAircraft": SetFacts(_AIRCRAFT, _SPLIT, "annotation_level", "variant"),
    "Flowers102": SetFacts(102, _SPLIT),
    "Food101": SetFacts(101, _TRAIN_TEST),
    "GTSRB": SetFacts(43, _TRAIN_TEST),
    "Imagenette": SetFacts(10, _TRAIN_VAL),
    "KMNIST": SetFacts(10, None),
    "MNIST": SetFacts(10, None),
    "OxfordIIITPet": SetFacts(37, {"train": "trainval", "test": "test"}),
    "PCAM": SetFacts(2, _SPLIT),
    "Places365": SetFacts(365, {"train": "train-standard", "val": "val"}),
    "RenderedSST2": SetFacts(2, _SPLIT),
    "SEMEION": SetFacts(10, {}),
    "StanfordCars": SetFacts(196, _TRAIN_TEST),
    "STL10": SetFacts(10, _TRAIN_TEST),
    "SUN397": SetFacts(397, {}),
    "SVHN": SetFacts(10, _TRAIN_TEST),
    "USPS": SetFacts(10, None),
}
"""Sets by the name of their class."""


def set_facts(data: DataConfig) -> SetFacts:
    """Return the facts of the set named by `data.name`.

    Raises:
        UserError: if there is no such set.
    """
    facts = SETS.get(data.name)
    if facts is None:
        remedy = did_you_mean(data.name, SETS, f"choose from {', '.join(SETS)}")
        raise UserError(Fault("data.name", "is no classification set of torchvision", remedy, data.name))
    return facts


def set_classes(data: DataConfig) -> int:
    """Return the number of classes of the set named by `data.name`, with `data.arguments`.

    Raises:
        UserError: if there is no such set, or an argument that selects the classes is missing or wrong.
    """
    facts = set_facts(data)
    if isinstance(facts.num_classes, int):
        return facts.num_classes
    value = (data.arguments or {}).get(str(facts.variant), facts.default)
    if not isinstance(value, str) or value not in facts.num_classes:
        rule = f"{data.name} needs the argument {facts.variant}" if value is None else f"no such {facts.variant}"
        remedy = f"write 'data.arguments={{{facts.variant}: …}}' with one of {', '.join(facts.num_classes)}"
        shown = None if value is None else f"{{{facts.variant}: {value}}}"
        raise UserError(Fault("data.arguments", rule, remedy, shown))
    return facts.num_classes[value]
