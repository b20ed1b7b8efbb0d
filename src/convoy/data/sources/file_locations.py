"""Where a set's files are looked for, and how they are fetched where they are nowhere."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from convoy.config.faults import Fault, UserError
from convoy.config.schema import DataConfig


@dataclass(frozen=True)
class FileLocations:
    """A published set and the folders that may hold it.

    Attributes:
        title: its name in messages.
        files: the files that are read; each may also be there with `.gz` at its end, if `compressed`.
        folders: below data.root and below the cache folder, where torchvision and others put the files.
        torchvision_class: in torchvision.datasets, which fetches it.
        system: a folder outside of both, of a package of the system.
        hint: how else to get it, as a clause.
    """

    title: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    torchvision_class: str
    compressed: bool = False
    system: Path | None = None
    hint: str = ""


def cache_folder() -> Path:
    """Where downloads go: $CONVOY_DATA, else ~/.cache/convoy."""
    return Path(os.environ.get("CONVOY_DATA") or "~/.cache/convoy").expanduser()


def locate(places: FileLocations, data: DataConfig) -> Mapping[str, Path]:
    """The path of each of a set's files, below data.root if it is given.

    Else they are looked for in the system's folder, then in the cache, and at last downloaded into it.

    Raises:
        UserError: if the files are in none of these places, not all there, or can't be fetched.
    """
    if data.root is not None:
        folders = [Path(data.root).expanduser() / folder for folder in places.folders]
        if found := _find(places, folders):
            return found
        raise _missing(places, data, folders, "for the usual places and a download give data.root=null; or ")
    if places.system is not None and (found := _find(places, [places.system])):
        return found
    cache = cache_folder()
    folders = [cache / folder for folder in places.folders]
    if data.download:
        with _alone(cache, places.torchvision_class):
            if not any(len(_present(places, folder)) == len(places.files) for folder in folders):
                _download(places, cache)
    if found := _find(places, folders):
        return found
    system = [places.system] if places.system is not None else []
    raise _missing(places, data, [*system, *folders], "allow the download with data.download=true; or ")


def broken_file(path: Path, wrong: str) -> UserError:
    """The error for a file that is there and can't be used; `wrong` is a clause."""
    fetched = path.is_relative_to(cache_folder())
    remedy = "delete it, and it will be downloaded again" if fetched else "replace it with a whole copy"
    return UserError(Fault("data.root", f"{path} {wrong}", remedy))


def _find(places: FileLocations, folders: Sequence[Path]) -> dict[str, Path]:
    """The files in the first folder that has any of them; empty where none has.

    Raises:
        UserError: if that folder has only some of them.
    """
    for folder in folders:
        found = _present(places, folder)
        if found and len(found) < len(places.files):
            absent = ", ".join(name for name in places.files if name not in found)
            raise UserError(Fault("data.root", f"{folder} lacks {absent} of {places.title}", "add what is missing"))
        if found:
            return found
    return {}


def _present(places: FileLocations, folder: Path) -> dict[str, Path]:
    """Those of the files that are in the folder; uncompressed ones are preferred."""
    endings = (".gz", "") if places.compressed else ("",)
    return {
        name: folder / f"{name}{ending}"
        for name in places.files
        for ending in endings
        if (folder / f"{name}{ending}").is_file()
    }


def _missing(places: FileLocations, data: DataConfig, folders: Sequence[Path], first: str) -> UserError:
    looked_in = ", ".join(str(folder) for folder in folders)
    value = "null" if data.root is None else data.root
    return UserError(Fault("data.root", f"{places.title} is not in {looked_in}", first + _by_hand(places), value))


def _by_hand(places: FileLocations) -> str:
    endings = " (or each with .gz)" if places.compressed else ""
    return f"put {', '.join(places.files)}{endings} into a folder and give it as data.root" + places.hint


def _download(places: FileLocations, cache: Path) -> None:
    from torchvision import datasets

    try:
        getattr(datasets, places.torchvision_class)(str(cache), download=True)
    # OSError: no network, no such host, a full disk. RuntimeError: torchvision's, of a wrong checksum.
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            Fault("data.root", f"{places.title} could not be downloaded to {cache} ({reason})", _by_hand(places))
        ) from error


@contextmanager
def _alone(cache: Path, name: str) -> Iterator[None]:
    """One process at a time: the ranks of a job start together, and would read what another is downloading.

    Where the lock can't be made, the cache can't be written to either, or its file system knows no locks.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context((cache / f"{name}.lock").open("w")), fcntl.LOCK_EX)
        yield
