"""Environment variables of launchers: the first rank, and launchers whose ranks can't be known."""

from __future__ import annotations

import pytest

from convoy.config.faults import UserError
from convoy.runtime.ranks import is_first_rank
from convoy.training import preflight

TORCHRUN = {
    "RANK": "2",
    "LOCAL_RANK": "0",
    "GROUP_RANK": "1",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "a01",
    "MASTER_PORT": "29500",
}
"""First process of the second of two nodes with two processes each."""

STARTED = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "0", "LOCAL_RANK": "1"}
"""Variables that Lightning sets in the second process, which it starts."""


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *STARTED, "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "JSM_NAMESPACE_RANK"):
        monkeypatch.delenv(name, raising=False)


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "is_first"),
    [
        ({}, True),
        (STARTED, False),
        ({**STARTED, "LOCAL_RANK": "0"}, True),
        ({**STARTED, "SLURM_PROCID": "0"}, False),  # in the shell of srun --pty bash
        ({**STARTED, "RANK": "0"}, False),  # in a container with RANK=0 and WORLD_SIZE=1
        ({"SLURM_PROCID": "2", "SLURM_LOCALID": "0"}, False),
        ({"SLURM_PROCID": "2", "LOCAL_RANK": "0"}, False),  # a script with LOCAL_RANK=$SLURM_LOCALID
        ({"SLURM_PROCID": "0"}, True),
        (TORCHRUN, False),
        ({**TORCHRUN, "RANK": "0", "GROUP_RANK": "0"}, True),
        ({**TORCHRUN, "RANK": "0", "GROUP_RANK": "0", "SLURM_PROCID": "1"}, True),  # nodes in the order of rendezvous
        ({"NODE_RANK": "1"}, False),
    ],
)
def test_one_process_is_the_first(variables: dict[str, str], is_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, variables)
    assert is_first_rank() is is_first


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in TORCHRUN.items() if name not in names}


@pytest.mark.parametrize(
    ("nodes", "variables"),
    [
        (2, TORCHRUN),
        (2, {**without("GROUP_RANK"), "NODE_RANK": "1"}),
        (2, {"SLURM_PROCID": "1"}),
        (1, STARTED | {"CONVOY_RUN_FOLDER": "run"}),
        (1, {"NODE_RANK": "0"}),
        (1, {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}),
        (1, {"OMPI_COMM_WORLD_RANK": "1"}),
    ],
)
def test_a_known_rank_is_accepted(nodes: int, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, variables)
    config = preflight.read([f"trainer.nodes={nodes}"])
    preflight.check_launch(config)


@pytest.mark.parametrize(
    ("nodes", "variables", "start"),
    [
        (2, {"NODE_RANK": "0"}, "NODE_RANK=0: does not give the rank of this process without RANK, WORLD_SIZE, "),
        (2, {"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "NODE_RANK=1: does not give the rank"),
        (2, {"OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_RANK=0: "),
        (2, {"LOCAL_RANK": "0"}, "LOCAL_RANK=0: "),
        (2, without("LOCAL_RANK"), "RANK=2: does not give the rank of this process without LOCAL_RANK; start each"),
        (2, without("GROUP_RANK"), "RANK=2: does not give the rank of this process without NODE_RANK; start each"),
        (1, {"NODE_RANK": "1"}, "NODE_RANK=1: "),
        (1, {"RANK": "1"}, "RANK=1: does not give the rank of this process without WORLD_SIZE, MASTER_ADDR, "),
        (1, {"LOCAL_RANK": "1"}, "LOCAL_RANK=1: "),
        (1, without("LOCAL_RANK", "GROUP_RANK") | {"RANK": "0"}, "RANK=0: does not give the rank of this process wi"),
    ],
)
def test_a_rank_that_cannot_be_known_is_refused(
    nodes: int, variables: dict[str, str], start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, variables)
    config = preflight.read([f"trainer.nodes={nodes}"])
    with pytest.raises(UserError) as refused:
        preflight.check_launch(config)
    (fault,) = refused.value.faults
    assert str(fault).startswith(start)
    assert "torchrun" in str(fault)
