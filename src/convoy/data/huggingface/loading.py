"""Opening of a data set of Hugging Face: files, a folder, or a name on the Hub. Imports no torch.

Arrow files are mapped into memory. Parquet files are converted once to Arrow files in the cache of `datasets`, which it
locks, so that several ranks can open the same set; with `data.streaming`, they are read as they are.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, closest, one_line
from convoy.data.huggingface.parquet_rows import ParquetRows
from convoy.data.huggingface.split_rows import MappedRows, SplitRows
from convoy.data.listing.folders import VAL_NAMES

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_SPLITS = {"train": ("train", "training"), "val": (*VAL_NAMES, "dev"), "test": ("test",)}


def library(data: DataConfig) -> Any:
    """Import `datasets`.

    Raises:
        UserError: if it is not installed.
    """
    try:
        found = import_module("datasets")
    except ImportError as error:
        rule, remedy = "needs the package datasets", "pip install 'convoy[huggingface]'"
        raise UserError(Fault("data.source", rule, remedy, data.source)) from error
    if not hasattr(found, "load_dataset"):
        rule = f"needs the package datasets, but a module of the same name hides it: {getattr(found, '__file__', None)}"
        raise UserError(Fault("data.source", rule, "rename that module", data.source))
    if not sys.stderr.isatty():
        found.disable_progress_bars()
    return found


def is_local(data: DataConfig) -> bool:
    """Return whether `data.root` is a file or a folder instead of a name on the Hub."""
    return data.root is not None and Path(data.root).expanduser().exists()


def read_features(data: DataConfig) -> Mapping[str, Any]:
    """Return the features of the columns; the images are not read, except by sets that don't declare their features.

    Raises:
        UserError: if the set can't be opened.
    """
    datasets = library(data)
    path = _path(data)
    if data.streaming:
        files, declared = _parquet_files(data)
        return declared or ParquetRows(data, _chosen(data, files)[0]["train"][:1], None).features
    if path.suffix == ".parquet" and path.is_file():
        schema = _attempt(data, lambda: import_module("pyarrow.parquet").read_schema(path))
        features: Mapping[str, Any] = datasets.Features.from_arrow_schema(schema)
        return features
    if not path.is_file() and not _is_saved(path):
        builder = _attempt(data, lambda: datasets.load_dataset_builder(_name(data), data.subset))
        if builder.info.features is not None:
            return dict(builder.info.features)
    return dict(next(iter(load_splits(data)[0].values())).features)


def load_splits(data: DataConfig) -> tuple[dict[str, SplitRows], list[str]]:
    """Return the rows of train, val and test, of those that exist, and notes.

    Raises:
        UserError: if the set can't be opened, or has several splits without train.
    """
    if data.streaming:
        files, declared = _parquet_files(data)
        chosen, notes = _chosen(data, files)
        rows = {"train": ParquetRows(data, chosen.pop("train"), declared)}
        features = rows["train"].features
        rows |= {split: ParquetRows(data, names, features) for split, names in chosen.items()}
        if empty := [split for split, found in rows.items() if not len(found)]:
            rule = f"the files of {' and '.join(empty)} have no rows"
            raise UserError(Fault("data.root", rule, "give files with one row per image", data.root))
        return dict(rows), notes
    found, notes = _chosen(data, _loaded(data))
    return {split: MappedRows(dataset) for split, dataset in found.items()}, notes


def _loaded(data: DataConfig) -> Mapping[str, Any]:
    """Return the data sets by the names of their splits."""
    datasets = library(data)
    path = _path(data)
    if path.suffix == ".arrow" and path.is_file():
        found = _attempt(data, lambda: datasets.Dataset.from_file(str(path)))
    elif path.is_file():
        found = _attempt(data, lambda: datasets.load_dataset("parquet", data_files={"train": [str(path)]}))
    elif _is_saved(path):
        found = _attempt(data, lambda: datasets.load_from_disk(str(path)))
    else:
        found = _attempt(data, lambda: datasets.load_dataset(_name(data), data.subset))
    by_name: Mapping[str, Any] = {"train": found} if isinstance(found, datasets.Dataset) else found
    return by_name


def _parquet_files(data: DataConfig) -> tuple[dict[str, list[str]], Mapping[str, Any] | None]:
    """Return the Parquet files by the names of their splits, and the features if they are declared.

    Raises:
        UserError: if the set can't be opened, or is not in Parquet files.
    """
    datasets = library(data)
    path = _path(data)
    if path.suffix == ".parquet" and path.is_file():
        return {"train": [str(path)]}, None
    if path.is_file() or _is_saved(path):
        rule = f"applies only to Parquet files, and {data.root} has the Arrow format"
        raise UserError(
            Fault("data.streaming", rule, "write data.streaming=false: they are mapped into memory", "true")
        )
    builder = _attempt(data, lambda: datasets.load_dataset_builder(_name(data), data.subset))
    files = {str(name): list(map(str, names)) for name, names in (builder.config.data_files or {}).items()}
    other = next((file for names in files.values() for file in names if not file.endswith(".parquet")), None)
    if other is not None or not files:
        rule = f"applies only to Parquet files, and {data.root} has {PurePosixPath(other).name if other else 'none'}"
        raise UserError(Fault("data.streaming", rule, "write data.streaming=false", "true"))
    return files, builder.info.features


def _chosen(data: DataConfig, found: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what belongs to train, val and test, and notes.

    Args:
        data: the data config.
        found: data sets or files by the names of their splits.

    Raises:
        UserError: if there are several splits, but no train.
    """
    by_split = {
        split: next(found[name] for name in names if name in found)
        for split, names in _SPLITS.items()
        if any(name in found for name in names)
    }
    if "train" in by_split:
        return by_split, []
    if len(found) == 1:
        name, only = next(iter(found.items()))
        return {"train": only}, [f"{data.root} has the split {name} only, which is used for train."]
    rule = f"has the splits {', '.join(found)}, but no train"
    remedy = "save one that has train with save_to_disk, or give the file or folder of one split"
    raise UserError(Fault("data.root", rule, remedy, data.root))


def _path(data: DataConfig) -> Path:
    path = Path(str(data.root)).expanduser()
    if path.is_file() and path.suffix not in (".parquet", ".arrow"):
        rule = "is neither a Parquet nor an Arrow file"
        remedy = f"CSV and JSON lines are read by data=table data.file={data.root}"
        raise UserError(Fault("data.root", rule, remedy, data.root))
    if not path.exists() and not _may_be_on_hub(data):
        near = closest(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else None
        remedy = f"did you mean {path.parent / near}?" if near else "give Parquet or Arrow files, or a saved data set"
        raise UserError(Fault("data.root", "does not exist", remedy, data.root))
    return path


def _may_be_on_hub(data: DataConfig) -> bool:
    """Return whether `data.root` can be NAME or OWNER/NAME on the Hub: it isn't spelled like a local path.

    A mistyped path is reported at once, since a search on the Hub takes half a minute without a connection.
    """
    name = str(data.root)
    owner, slash, _ = name.rpartition("/")
    if not _HUB_NAME.fullmatch(name) or (slash and Path(owner).is_dir()):
        return False
    return bool(slash) or closest(name, [entry.name for entry in Path().iterdir()], cutoff=0.8) is None


def _name(data: DataConfig) -> str:
    """Return what `load_dataset` takes: a folder as an absolute path, or a name on the Hub."""
    return str(Path(str(data.root)).expanduser().resolve()) if is_local(data) else str(data.root)


def _is_saved(path: Path) -> bool:
    """Return whether a folder was written by `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _attempt(data: DataConfig, read: Any) -> Any:
    try:
        return read()
    # The library raises exceptions of many packages: its own, pyarrow's, those of requests, and others.
    except Exception as error:
        message = one_line(error)
        if "Config name is missing" in message or "not found. Available" in message:
            raise UserError(Fault("data.subset", message, "", data.subset or "null")) from error
        if isinstance(error, MemoryError):
            raise
        remedy = "give Parquet or Arrow files, a folder of them, or one that save_to_disk wrote"
        if not is_local(data):
            remedy = "check the name on the Hub and the connection; with HF_HUB_OFFLINE=1 only the cache is searched"
        raise UserError(Fault("data.root", f"datasets can't read it ({message})", remedy, data.root)) from error
