"""Image and label of the samples of tar files written by others."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.data.shards.tar_scan import LABEL_EXTENSIONS, TarImage, TarSample
from convoy.data.targets import listed

Label = int | str

_FEWEST_FOR_TEXTS = 100
"""Number of samples from which texts that are mostly different are refused as classes."""


@dataclass(frozen=True)
class SampleFormat:
    """Members of a sample that are its image and its label.

    Attributes:
        image: extension of the image; None if samples have one image.
        label: extension of the label.
        field: names that lead to the label in a JSON object.
    """

    image: str | None
    label: str
    field: tuple[str, ...] = ()

    @classmethod
    def of(cls, image: str | None, label: str | None, first: TarSample) -> SampleFormat:
        """Return the format that is given, or that of the first sample.

        Args:
            image: extension of the image, or None.
            label: extension of the label, json.FIELD, or None.
            first: the first sample.

        Raises:
            UserError: if the sample has no label.
        """
        if label is not None:
            extension, _, names = label.partition(".")
            if extension == "json" and names:
                return cls(image, extension, tuple(names.split(".")))
            if extension != "json":
                return cls(image, label)
        for extension in ("cls", "txt"):
            if label is None and extension in first.labels:
                return cls(image, extension)
        if "json" in first.labels:
            fields = _json(first.labels["json"])
            names = ", ".join(fields) if isinstance(fields, dict) else "no object"
            rule = "a label in a .json needs the name of its field"
            raise UserError(Fault("label", rule, f"write label=json.FIELD; sample {first.key} has {names}", label))
        rule = f"sample {first.key} has none of {', '.join(f'.{name}' for name in LABEL_EXTENSIONS)}"
        raise UserError(Fault("label", rule, "name the extension of its labels", "null"))

    def image_of(self, sample: TarSample) -> TarImage:
        """Return the image of a sample.

        Raises:
            ValueError: if it has none, or several.
        """
        if self.image is not None:
            if self.image not in sample.images:
                found = ", ".join(f".{name}" for name in sample.images) or "no image"
                raise ValueError(f"has no .{self.image}, but {found}")
            return sample.images[self.image]
        if len(sample.images) != 1:
            if not sample.images:
                raise ValueError("has no image")
            raise ValueError(f"has several images: write image= and one of {', '.join(sample.images)}")
        return next(iter(sample.images.values()))

    def label_of(self, sample: TarSample) -> Label:
        """Return the label of a sample: a number if it is written as one.

        Raises:
            ValueError: if it has none, or the label is not a number or a text.
        """
        if self.label not in sample.labels:
            raise ValueError(f"has no .{self.label}")
        content = sample.labels[self.label]
        value: Any = content.decode("utf-8", errors="replace").strip()
        if self.field:
            value = _json(content)
            for name in self.field:
                if not isinstance(value, dict) or name not in value:
                    near = did_you_mean(name, value) if isinstance(value, dict) else ""
                    raise ValueError(f"has no field {name} in its .json" + (f"; {near}" if near else ""))
                value = value[name]
        if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise ValueError(f"has the label {value!r}, which is neither a number nor a text")
        return value


def class_indices(labels: Sequence[Label], names: Sequence[str] | None, root: str) -> tuple[tuple[str, ...], list[int]]:
    """Return the names of the classes, and the index of each label.

    Numbers are indices if they are 0 .. n - 1, or into the given names. Other labels are names, in their order.

    Args:
        labels: label of each sample.
        names: names of the classes, or None.
        root: folder of the files, for errors.

    Raises:
        UserError: if a label is not among the names, or there are fewer than two classes.
    """
    found = set(labels)
    if names is not None:
        index: dict[Label, int] = {name: place for place, name in enumerate(names)}
        index |= {place: place for place in range(len(names))}
        if unknown := sorted(str(label) for label in found - set(index)):
            rule = f"labels are neither one of the {len(names)} names nor their index: {listed(unknown)}"
            raise UserError(Fault("classes", rule, "add one line per class, in the order of their numbers"))
        return tuple(names), [index[label] for label in labels]
    if len(found) < 2:
        raise UserError(Fault("tars", f"all samples have the class {listed([str(one) for one in found])}", "", root))
    texts = Counter(label for label in labels if isinstance(label, str))
    if len(labels) >= _FEWEST_FOR_TEXTS and len(texts) > len(labels) / 2:
        rule = f"{len(texts):,} of {len(labels):,} labels are different texts, such as {next(iter(texts))!r}"
        raise UserError(Fault("label", rule, "name the member that has the class, such as label=json.FIELD"))
    order = sorted(found, key=lambda label: (isinstance(label, str), label))
    index = {label: place for place, label in enumerate(order)}
    return tuple(map(str, order)), [index[label] for label in labels]


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"has a .json that can't be read ({error})") from error
