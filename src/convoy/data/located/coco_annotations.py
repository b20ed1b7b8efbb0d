"""Key points of objects in COCO's format (cocodataset.org/#format-data): each object is an image, cut out of its file.

Imports neither torch nor NumPy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.listing.image_files import ImageFiles
from convoy.data.listing.listed_paths import existing_file, missing_remedy
from convoy.data.targets import KEYPOINTS, Targets, counted

MARGIN = 1.25
"""Factor by which the sides of an object's box are enlarged."""

Box = tuple[int, int, int, int]


def coco_keypoints(data: DataConfig) -> tuple[Targets, dict[str, ImageFiles], list[str]]:
    """List the objects of `data.file` that have a known point. Objects of one image stay in one split.

    Raises:
        UserError: if the file can't be used, or an image is missing.
    """
    content = _read(data)
    names = _names(content, data)
    root = Path(str(data.file)).expanduser().parent if data.root is None else Path(data.root).expanduser()
    images = {entry["id"]: entry for entry in content["images"]}
    paths, targets, boxes, groups = [], [], [], []
    crowds = 0
    for entry in content["annotations"]:
        if entry.get("iscrowd"):
            crowds += 1
            continue
        values = entry.get("keypoints", [])
        if len(values) != 3 * len(names) or not any(values[2::3]):
            continue
        image = images.get(entry.get("image_id"))
        if image is None:
            rule = f"annotation {entry.get('id')} names the image {entry.get('image_id')}, which {data.file} lacks"
            raise UserError(Fault("data.file", rule, "add the image, or remove the annotation"))
        box = _enlarged(entry["bbox"], int(image["width"]), int(image["height"]))
        path = existing_file(str(root / image["file_name"]))
        if path is None:
            rule = f"{root / image['file_name']} does not exist"
            raise UserError(Fault("data.root", rule, missing_remedy(str(root / image["file_name"]), root), str(root)))
        paths.append(path)
        boxes.append(box)
        groups.append(str(image["id"]))
        targets.append(_points(values, box))
    if not paths:
        rule = f"{data.file} has no object with a known point"
        raise UserError(Fault("data.file", rule, "give a file of key points, such as person_keypoints_train2017.json"))
    notes = [f"{data.file} has {counted(len(paths), 'object')}, each of which is an image."]
    if crowds:
        notes.append(f"{counted(crowds, 'crowd')} of {data.file} left out.")
    files = ImageFiles(tuple(paths), tuple(targets), groups=tuple(groups), boxes=tuple(boxes))
    return Targets(KEYPOINTS, names), {"train": files}, notes


def point_names(data: DataConfig) -> tuple[str, ...]:
    """Return the names of the points of `data.file`.

    Raises:
        UserError: if the file can't be used.
    """
    return _names(_read(data), data)


def _read(data: DataConfig) -> dict[str, Any]:
    if data.file is None:
        raise UserError(Fault("data.file", "is missing", "give the JSON file of the annotations", "null"))
    path = Path(data.file).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        rule = f"can't be read ({str(error.strerror).lower()})"
        raise UserError(Fault("data.file", rule, "give the JSON file of the annotations", data.file)) from error
    except ValueError as error:
        raise UserError(Fault("data.file", f"is not JSON ({error})", "give COCO's annotations", data.file)) from error
    parts = ("images", "annotations", "categories")
    lacking = [part for part in parts if not isinstance(content, Mapping) or part not in content]
    if lacking:
        rule = f"has no {' and no '.join(lacking)}"
        raise UserError(Fault("data.file", rule, "give a file in COCO's format, or data=keypoint_table", data.file))
    return dict(content)


def _names(content: Mapping[str, Any], data: DataConfig) -> tuple[str, ...]:
    lists = {tuple(map(str, entry["keypoints"])) for entry in content["categories"] if entry.get("keypoints")}
    if len(lists) != 1:
        rule = f"has {counted(len(lists), 'category', 'categories')} with key points"
        raise UserError(Fault("data.file", rule, "it needs one category with a list of keypoints", data.file))
    return lists.pop()


def _enlarged(box: list[float], width: int, height: int) -> Box:
    """Return a box, enlarged by `MARGIN` about its center, within an image."""
    left, top, wide, tall = (float(value) for value in box)
    across, down = left + wide / 2, top + tall / 2
    begin = max(0, math.floor(across - MARGIN * wide / 2)), max(0, math.floor(down - MARGIN * tall / 2))
    end = min(width, math.ceil(across + MARGIN * wide / 2)), min(height, math.ceil(down + MARGIN * tall / 2))
    return begin[0], begin[1], max(1, end[0] - begin[0]), max(1, end[1] - begin[1])


def _points(values: list[float], box: Box) -> tuple[float, ...]:
    """Return x, y and 1 or 0 of each point, in pixels of the box."""
    found: list[float] = []
    for x, y, visibility in zip(values[::3], values[1::3], values[2::3], strict=True):
        found += [float(x) - box[0], float(y) - box[1], 1.0] if visibility else [0.0, 0.0, 0.0]
    return tuple(found)
