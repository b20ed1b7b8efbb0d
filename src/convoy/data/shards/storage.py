"""Where a packed set lies: a folder, or an address of an S3-compatible store. Imports neither torch nor NumPy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from convoy.config.faults import Fault, UserError

S3 = "s3://"
_CHUNK_BYTES = 8 << 20


class Storage(Protocol):
    """A flat folder of files. A missing file raises FileNotFoundError, any other trouble UserError."""

    root: str
    is_remote: bool

    def read(self, name: str) -> bytes:
        """All of a file."""
        ...

    def read_range(self, name: str, begin: int, end: int) -> bytes:
        """The bytes begin .. end - 1 of a file, or as many as there are."""
        ...

    def sizes(self) -> dict[str, int] | None:
        """Bytes of each file; None where that may not be asked."""
        ...

    def has_folder(self, name: str) -> bool:
        """Whether there is a folder in it, with something in it."""
        ...

    def missing(self) -> tuple[str, str] | None:
        """Rule and remedy where there is no such folder at all."""
        ...


def open_storage(root: str) -> Storage:
    """The storage at `root`, a folder or s3://bucket/prefix.

    Raises:
        UserError: if it is another kind of address, or one of S3 and s3fs isn't installed.
    """
    if root.startswith(S3):
        return _Bucket(root)
    if "://" in root:
        raise UserError(Fault("data.root", "is no address that shards are read from", f"a folder, or {S3}…", root))
    return LocalFolder(root)


def digest(storage: Storage, name: str) -> tuple[int, str]:
    """Bytes and SHA-256 of a file."""
    found, begin = hashlib.sha256(), 0
    while chunk := storage.read_range(name, begin, begin + _CHUNK_BYTES):
        found.update(chunk)
        begin += len(chunk)
        if len(chunk) < _CHUNK_BYTES:
            break
    return begin, found.hexdigest()


class LocalFolder:
    """A folder of this machine, or one that is mounted."""

    is_remote = False

    def __init__(self, root: str) -> None:
        self.root = root
        self.path = Path(root).expanduser()

    def read(self, name: str) -> bytes:
        with self._told():
            return (self.path / name).read_bytes()

    def read_range(self, name: str, begin: int, end: int) -> bytes:
        with self._told(), (self.path / name).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), end - begin, begin)

    def sizes(self) -> dict[str, int] | None:
        with self._told(), os.scandir(self.path) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}

    def has_folder(self, name: str) -> bool:
        return (self.path / name).is_dir()

    def missing(self) -> tuple[str, str] | None:
        if self.path.is_dir():
            return None
        rule = "is not a folder" if self.path.exists() else "does not exist"
        return rule, "give the folder that convoy pack wrote"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(str(error)) from error
        except OSError as error:
            raise UserError(Fault("data.root", f"can't be read ({error})", "", self.root)) from error


class _Bucket:
    """A prefix of a bucket, by s3fs; credentials and endpoint are found as botocore finds them."""

    is_remote = True

    def __init__(self, root: str) -> None:
        self.root = root
        try:
            s3fs: Any = import_module("s3fs")
            self._errors: tuple[type[Exception], ...] = (
                OSError,
                TimeoutError,
                import_module("botocore.exceptions").BotoCoreError,
                import_module("botocore.exceptions").ClientError,
            )
        except ImportError as error:
            remedy = "pip install 'convoy[s3]'"
            raise UserError(Fault("data.root", "an address of S3 needs the package s3fs", remedy, root)) from error
        # Not the listing of before, which may be of when the set wasn't there yet. The endpoint is named since s3fs
        # keeps a client for the next one who asks for the same.
        self._files = s3fs.S3FileSystem(endpoint_url=_endpoint(), use_listings_cache=False)
        self._prefix = root[len(S3) :].strip("/")
        if not self._prefix:
            raise UserError(Fault("data.root", "names no bucket", f"write {S3}bucket/prefix", root))

    def read(self, name: str) -> bytes:
        return self._asked(lambda: self._files.cat_file(f"{self._prefix}/{name}"))

    def read_range(self, name: str, begin: int, end: int) -> bytes:
        return self._asked(lambda: self._files.cat_file(f"{self._prefix}/{name}", start=begin, end=end))

    def sizes(self) -> dict[str, int] | None:
        try:
            entries = self._files.ls(self._prefix, detail=True)
        except PermissionError:
            return None
        except self._errors as error:
            raise self._fault(error) from error
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in entries if entry["type"] == "file"}

    def has_folder(self, name: str) -> bool:
        try:
            return bool(self._files.ls(f"{self._prefix}/{name}"))
        except self._errors:
            return False

    def missing(self) -> tuple[str, str] | None:
        bucket = self._prefix.partition("/")[0]
        try:
            self._files.ls(bucket)
        except FileNotFoundError:
            where = _endpoint()
            rule = f"there is no bucket {bucket}" + (f" at {where}" if where else "")
            return rule, "mend its name, or set AWS_ENDPOINT_URL to the store that has it"
        except self._errors:
            return None
        return None

    def _asked(self, ask: Callable[[], Any]) -> bytes:
        try:
            return bytes(ask())
        except FileNotFoundError:
            raise
        except self._errors as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> UserError:
        said = str(error) or type(error).__name__
        if isinstance(error, PermissionError) or type(error).__name__ in (
            "NoCredentialsError",
            "PartialCredentialsError",
        ):
            remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true for a public bucket"
        else:
            remedy = "see that the store can be reached (AWS_ENDPOINT_URL, AWS_REGION)"
        return UserError(Fault("data.root", f"can't be read ({said})", remedy, self.root))


def _endpoint() -> str | None:
    """As the environment has it; None: botocore looks for it elsewhere, such as in ~/.aws/config."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
