"""Lookup and download of the files of a published data set."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError


@dataclass(frozen=True)
class FileLocations:
    """Files of a published data set and the folders where they are searched.

    Attributes:
        title: name of the data set in messages.
        files: names of the files.
        folders: folders below data.root and below the cache folder, with the names used by torchvision and others.
        torchvision_class: class of torchvision.datasets that downloads the files.
        compressed: whether each file may also end in `.gz`.
        system: folder of a package of the operating system.
        hint: another way to get the files, as a clause.
    """

    title: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    torchvision_class: str
    compressed: bool = False
    system: Path | None = None
    hint: str = ""


def cache_folder() -> Path:
    """Return the folder of downloads: $CONVOY_DATA, else ~/.cache/convoy."""
    return Path(os.environ.get("CONVOY_DATA") or "~/.cache/convoy").expanduser()


def locate(locations: FileLocations, data: DataConfig) -> Mapping[str, Path]:
    """Return the path of each file of a data set, below data.root if it is given.

    Without data.root, the system's folder and the cache are searched, and missing files are downloaded to the cache.

    Raises:
        UserError: if files are missing and can't be downloaded.
    """
    if data.root is not None:
        folders = [Path(data.root).expanduser() / folder for folder in locations.folders]
        if found := _find(locations, folders):
            return found
        raise _missing(locations, data, folders, "write data.root=null to search the usual folders and download; or ")
    if locations.system is not None and (found := _find(locations, [locations.system])):
        return found
    cache = cache_folder()
    folders = [cache / folder for folder in locations.folders]
    if data.download:
        with download_lock(cache, locations.torchvision_class):
            if not any(len(_existing(locations, folder)) == len(locations.files) for folder in folders):
                _download(locations, cache)
    if found := _find(locations, folders):
        return found
    system = [locations.system] if locations.system is not None else []
    raise _missing(locations, data, [*system, *folders], "allow the download with data.download=true; or ")


def broken_file(path: Path, wrong: str) -> UserError:
    """Return the error of a file that exists but can't be used; `wrong` is a clause."""
    fetched = path.is_relative_to(cache_folder())
    remedy = "delete it to download it again" if fetched else "replace it with a complete copy"
    return UserError(Fault("data.root", f"{path} {wrong}", remedy))


def _find(locations: FileLocations, folders: Sequence[Path]) -> dict[str, Path]:
    """Return the files in the first folder that has any of them, or nothing.

    Raises:
        UserError: if that folder has only some of them.
    """
    for folder in folders:
        existing = _existing(locations, folder)
        if existing and len(existing) < len(locations.files):
            absent = ", ".join(name for name in locations.files if name not in existing)
            raise UserError(
                Fault("data.root", f"{folder} lacks {absent} of {locations.title}", "add the missing files")
            )
        if existing:
            return existing
    return {}


def _existing(locations: FileLocations, folder: Path) -> dict[str, Path]:
    """Return the files that are in a folder; uncompressed ones are preferred."""
    endings = (".gz", "") if locations.compressed else ("",)
    return {
        name: folder / f"{name}{ending}"
        for name in locations.files
        for ending in endings
        if (folder / f"{name}{ending}").is_file()
    }


def _missing(locations: FileLocations, data: DataConfig, folders: Sequence[Path], first: str) -> UserError:
    looked_in = ", ".join(str(folder) for folder in folders)
    value = "null" if data.root is None else data.root
    return UserError(Fault("data.root", f"{locations.title} is not in {looked_in}", first + _by_hand(locations), value))


def _by_hand(locations: FileLocations) -> str:
    endings = " (or each with .gz)" if locations.compressed else ""
    return f"put {', '.join(locations.files)}{endings} into a folder and give it as data.root" + locations.hint


def _download(locations: FileLocations, cache: Path) -> None:
    from torchvision import datasets

    try:
        getattr(datasets, locations.torchvision_class)(str(cache), download=True)
    # OSError: no network, no such host, a full disk. RuntimeError: a wrong checksum, raised by torchvision.
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            Fault("data.root", f"{locations.title} could not be downloaded to {cache} ({reason})", _by_hand(locations))
        ) from error


@contextmanager
def download_lock(cache: Path, name: str) -> Iterator[None]:
    """Admit one process at a time, so that no rank reads files that another rank is downloading.

    If the lock can't be created, the block runs without a lock: the cache isn't writable, or its file system has no
    locks.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context((cache / f"{name}.lock").open("w")), fcntl.LOCK_EX)
        yield
