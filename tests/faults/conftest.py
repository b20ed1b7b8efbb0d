"""Servers that fork runs, and an undisturbed run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.runs import WORDS, ForkServer


@pytest.fixture(scope="session")
def servers() -> Iterator[list[ForkServer]]:
    """Two servers, for two runs at a time."""
    both = [ForkServer(), ForkServer()]
    yield both
    for server in both:
        server.close()


@pytest.fixture(scope="session")
def server(servers: list[ForkServer]) -> ForkServer:
    return servers[0]


@pytest.fixture(scope="session")
def undisturbed(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = server.run(folder, *WORDS)
    assert ended.code == 0, ended.out
    return folder / "run"
