"""Storage of a packed data set: a folder, or a prefix of an S3-compatible store. Imports neither torch nor NumPy."""

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
    """Folder of files, named by their paths in it. A missing file raises FileNotFoundError, other errors UserError."""

    root: str
    is_remote: bool

    def read(self, name: str) -> bytes:
        """Return the contents of a file."""
        ...

    def read_range(self, name: str, begin: int, end: int) -> bytes:
        """Return the bytes begin .. end - 1 of a file, fewer at its end."""
        ...

    def sizes(self) -> dict[str, int] | None:
        """Return the size of each file in bytes, also in subfolders, or None without permission to list them."""
        ...

    def has_folder(self, name: str) -> bool:
        """Return whether a subfolder exists and isn't empty."""
        ...

    def missing(self) -> tuple[str, str] | None:
        """Return rule and remedy if the folder doesn't exist, else None."""
        ...


def open_storage(root: str) -> Storage:
    """Return the storage at `root`, a folder or s3://bucket/prefix.

    Raises:
        UserError: if `root` is another kind of address, or s3fs isn't installed.
    """
    if root.startswith(S3):
        return _Bucket(root)
    if "://" in root:
        raise UserError(Fault("data.root", "is not a supported address", f"give a folder or {S3}bucket/prefix", root))
    return LocalFolder(root)


def digest(storage: Storage, name: str) -> tuple[int, str]:
    """Return the size of a file in bytes and its SHA-256 in hexadecimal."""
    checksum, begin = hashlib.sha256(), 0
    while chunk := storage.read_range(name, begin, begin + _CHUNK_BYTES):
        checksum.update(chunk)
        begin += len(chunk)
        if len(chunk) < _CHUNK_BYTES:
            break
    return begin, checksum.hexdigest()


class LocalFolder:
    """Local or mounted folder."""

    is_remote = False

    def __init__(self, root: str) -> None:
        self.root = root
        self.path = Path(root).expanduser()

    def read(self, name: str) -> bytes:
        with self._as_user_error():
            return (self.path / name).read_bytes()

    def read_range(self, name: str, begin: int, end: int) -> bytes:
        with self._as_user_error(), (self.path / name).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), end - begin, begin)

    def sizes(self) -> dict[str, int] | None:
        with self._as_user_error():
            files = [Path(parent) / name for parent, _, names in os.walk(self.path) for name in names]
            return {str(file.relative_to(self.path)): file.stat().st_size for file in files if file.is_file()}

    def has_folder(self, name: str) -> bool:
        return (self.path / name).is_dir()

    def missing(self) -> tuple[str, str] | None:
        if self.path.is_dir():
            return None
        rule = "is not a folder" if self.path.exists() else "does not exist"
        return rule, "give the folder that convoy pack wrote"

    @contextmanager
    def _as_user_error(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(str(error)) from error
        except OSError as error:
            raise UserError(Fault("data.root", f"can't be read ({error})", "", self.root)) from error


class _Bucket:
    """Prefix of a bucket, read by s3fs; credentials and endpoint are looked up by botocore."""

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
        # No cached listing, which may predate the data set. The endpoint is given explicitly, since s3fs reuses a
        # client for equal arguments.
        self._files = s3fs.S3FileSystem(endpoint_url=_endpoint(), use_listings_cache=False)
        self._prefix = root[len(S3) :].strip("/")
        if not self._prefix:
            raise UserError(Fault("data.root", "has no bucket name", f"write {S3}bucket/prefix", root))

    def read(self, name: str) -> bytes:
        return self._request(lambda: self._files.cat_file(f"{self._prefix}/{name}"))

    def read_range(self, name: str, begin: int, end: int) -> bytes:
        return self._request(lambda: self._files.cat_file(f"{self._prefix}/{name}", start=begin, end=end))

    def sizes(self) -> dict[str, int] | None:
        try:
            entries = self._files.find(self._prefix, detail=True)
        except PermissionError:
            return None
        except self._errors as error:
            raise self._fault(error) from error
        return {name.removeprefix(f"{self._prefix}/"): entry["size"] for name, entry in entries.items()}

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
            return rule, "correct its name, or set AWS_ENDPOINT_URL to the store that has it"
        except self._errors:
            return None
        return None

    def _request(self, ask: Callable[[], Any]) -> bytes:
        try:
            return bytes(ask())
        except FileNotFoundError:
            raise
        except self._errors as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> UserError:
        message = str(error) or type(error).__name__
        if isinstance(error, PermissionError) or type(error).__name__ in (
            "NoCredentialsError",
            "PartialCredentialsError",
        ):
            remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true for a public bucket"
        else:
            remedy = "check the connection to the store (AWS_ENDPOINT_URL, AWS_REGION)"
        return UserError(Fault("data.root", f"can't be read ({message})", remedy, self.root))


def _endpoint() -> str | None:
    """Return the endpoint in the environment; None to let botocore search other sources such as ~/.aws/config."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
