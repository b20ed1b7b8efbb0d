"""Columns of the image and of the target in a data set of `datasets`, found from its features. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.data.tables.settings import target_columns
from convoy.data.targets import CLASS_INDEX, VALUES

Features = Mapping[str, Any]


def image_column(data: DataConfig, features: Features) -> str:
    """Return the column of the images: `data.image_column`, or the only one with images.

    Raises:
        UserError: if there is no such column, or there are several.
    """
    candidates = [name for name, feature in features.items() if _has_images(feature)]
    if data.image_column is not None:
        _check_exists(data, "data.image_column", data.image_column, features)
        if data.image_column not in candidates:
            rule = f"has values of type {_type_of(features[data.image_column])} instead of images"
            remedy = f"choose from {', '.join(candidates)}" if candidates else "give a data set with images"
            raise UserError(Fault("data.image_column", rule, remedy, data.image_column))
        return data.image_column
    if len(candidates) != 1:
        rule = f"{data.root} has {len(candidates) or 'no'} columns of images"
        remedy = f"name one of {', '.join(candidates)}" if candidates else f"its columns are {_listed(features)}"
        raise UserError(Fault("data.image_column", rule, remedy, "null"))
    return candidates[0]


def targets_columns(data: DataConfig, features: Features) -> tuple[str, ...]:
    """Return the columns of the target: `data.target_column`, the only ClassLabel, or the only one beside the image.

    Raises:
        UserError: if there is no such column, or it isn't clear which.
    """
    given = target_columns(data)
    for column in given:
        _check_exists(data, "data.target_column", column, features)
    if given:
        if data.target != VALUES and len(given) > 1:
            rule = f"data.target={data.target} reads one column of a data set of Hugging Face"
            raise UserError(Fault("data.target_column", rule, "name one column", f"[{','.join(given)}]"))
        return given
    image = image_column(data, features)
    others = [name for name in features if name != image]
    labelled = [name for name in others if class_names(features[name], data.target) is not None]
    if data.target != VALUES and len(labelled) == 1:
        return (labelled[0],)
    if len(others) == 1:
        return (others[0],)
    rule = f"{data.root} has {len(labelled)} columns of classes" if labelled else f"{data.root} names no target"
    raise UserError(Fault("data.target_column", rule, f"name one of {', '.join(labelled or others)}", "null"))


def class_names(feature: Any, target: str) -> Sequence[str] | None:
    """Return the names of a ClassLabel, or for labels of a list of them; None for other features."""
    label = feature if target == CLASS_INDEX else getattr(feature, "feature", None)
    names = getattr(label, "names", None)
    return names if isinstance(names, list) and names else None


def _has_images(feature: Any) -> bool:
    kind = _type_of(feature)
    if kind == "Image" or (isinstance(feature, Mapping) and "bytes" in feature):
        return True
    return str(getattr(feature, "dtype", "")) in ("binary", "large_binary")


def _type_of(feature: Any) -> str:
    kind = type(feature).__name__
    return f"{feature.dtype}" if kind == "Value" else kind


def _check_exists(data: DataConfig, key: str, column: str, features: Features) -> None:
    if column not in features:
        near = did_you_mean(column, features)
        columns = f"the columns are {_listed(features)}"
        remedy = f"{near} T{columns[1:]}" if near else columns
        raise UserError(Fault(key, f"{data.root} has no such column", remedy, column))


def _listed(features: Features) -> str:
    return ", ".join(f"{name} ({_type_of(feature)})" for name, feature in features.items())
