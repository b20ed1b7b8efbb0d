"""Fixtures: the packed folder of digits, and an empty S3 server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convoy.config.data_schema import DataConfig
from convoy.data.opening.file_splits import file_splits
from convoy.data.shards.packing import Packing, pack
from convoy.data.shards.shard_index import Index

MakeData = Callable[..., DataConfig]
PackFolder = Callable[..., Index]


@pytest.fixture
def pack_folder(folder_data: MakeData) -> PackFolder:
    """Return a function that packs a folder into small shards; its arguments are those of `Packing`."""

    def run(root: Path, output: Path, **changes: object) -> Index:
        found = file_splits(folder_data(root))
        settings: dict[str, object] = {"shard_bytes": 20_000, "num_threads": 2}
        return pack(Packing(found.targets.names, found.splits, output, **(settings | changes)))  # type: ignore[arg-type]

    return run


@pytest.fixture
def shard_data(folder_data: MakeData) -> MakeData:
    """Return a function that makes the config of shards; augmentation is off by default."""
    return lambda root, **changes: folder_data(root, **({"name": "shards", "source": "shards"} | changes))


@pytest.fixture
def packed(digits_folder: Path, tmp_path: Path, pack_folder: PackFolder) -> Path:
    pack_folder(digits_folder, tmp_path / "packed")
    return tmp_path / "packed"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of a local S3 server, which is found through the environment."""
    pytest.importorskip("s3fs", reason="pip install 'convoy[s3]'")
    server = pytest.importorskip("moto.server", reason="no S3 server to test with: pip install 'moto[server]'")
    running = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    yield f"http://{host}:{port}"
    running.stop()
