"""The digits' folder packed, and an S3 server with nothing in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convoy.config.schema import DataConfig
from convoy.data.datasets import file_splits
from convoy.data.shards.index import Index
from convoy.data.shards.packing import Packing, pack

MakeData = Callable[..., DataConfig]
PackFolder = Callable[..., Index]


@pytest.fixture
def pack_folder(folder_data: MakeData) -> PackFolder:
    """Packs a folder into small shards; what is given goes to `Packing`."""

    def run(root: Path, output: Path, **changes: object) -> Index:
        found = file_splits(folder_data(root))
        settings: dict[str, object] = {"shard_bytes": 20_000, "num_threads": 2}
        return pack(Packing(found.targets.names, found.splits, output, **(settings | changes)))  # type: ignore[arg-type]

    return run


@pytest.fixture
def shard_data(folder_data: MakeData) -> MakeData:
    """Makes the config of shards; augmentation is off unless given."""
    return lambda root, **changes: folder_data(root, **({"name": "shards", "source": "shards"} | changes))


@pytest.fixture
def packed(digits_folder: Path, tmp_path: Path, pack_folder: PackFolder) -> Path:
    pack_folder(digits_folder, tmp_path / "packed")
    return tmp_path / "packed"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a real server on this machine, found by the environment as any other would be."""
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
