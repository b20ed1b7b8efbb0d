"""convoy calibrate. There is no GPU here: what one would tell is stood in for, and what is done with it is real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import Run

from convoy.commands.calibrate import measure
from convoy.planner.convolutions import FORWARD, Convolution
from convoy.training import preflight

Convoy = Callable[..., Run]
WORDS = ("model=resnet18", "data.image_size=64", "hardware=a40", "trainer.global_batch_size=64")
GIB = 2**30


class StandIn:
    """A card whose stem's forward convolution takes 30 GiB of workspace, in proportion to the batch."""

    name, versions = "NVIDIA A40", {"torch": torch.__version__}

    def total_bytes(self) -> int:
        return 44 * GIB

    def context_bytes(self) -> int:
        return GIB

    def workspace_bytes(self, convolution: Convolution, batch: int) -> int | None:
        is_stem = convolution.weight_shape[2] == 7 and convolution.direction == FORWARD
        return 30 * GIB * batch // 64 if is_stem else 0


def plan(convoy: Convoy, *words: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(convoy("plan", *WORDS, *words, "format=json", folder=None).out)
    return found


@pytest.mark.slow
def test_the_planner_uses_measurements(convoy: Convoy, capfd: pytest.CaptureFixture[str]) -> None:
    before = plan(convoy)
    measure(preflight.read(list(WORDS), to_run=False), StandIn())
    assert "22 of 22 convolutions, at most 30.00 GiB" in capfd.readouterr().out
    after = plan(convoy)
    assert before["calibrated"] is None
    assert str(after["calibrated"]).startswith("NVIDIA A40, 20")
    assert after["usable_bytes"] == 44 * GIB
    assert after["categories"]["cudnn_workspace"] == 30 * GIB  # type: ignore[index]
    assert after["device_total_bytes"] == after["peak_reserved_bytes"] + GIB  # type: ignore[operator]
    assert after["largest_micro_batch"] < 100 < before["largest_micro_batch"]  # type: ignore[operator]
    typed = plan(convoy, "hardware.usable_bytes=20000000000", "hardware.context_bytes=1")
    assert (typed["calibrated"], typed["usable_bytes"]) == (None, 20_000_000_000)


def test_a_second_call_adds_to_the_first() -> None:
    measure(preflight.read(list(WORDS), to_run=False), StandIn())
    measure(preflight.read([*WORDS, "model=lenet5", "trainer.global_batch_size=8"], to_run=False), StandIn())
    kept = json.loads(Path("outputs/calibration/a40.json").read_text())
    assert len(kept["workspaces"]) > 22
    assert {batch for sizes in kept["workspaces"].values() for batch in sizes} == {"2", "4", "8", "16", "32", "64"}


@pytest.mark.parametrize(
    ("words", "said"),
    [(("hardware=a40",), "no GPU that torch can use"), ((), "name the card"), (("hardware=a41",), "did you mean a40?")],
)
def test_a_missing_gpu_or_name_has_a_remedy(convoy: Convoy, words: tuple[str, ...], said: str) -> None:
    done = convoy("calibrate", *words, folder=None)
    assert done.code == 2
    assert said in done.err
    assert list(Path().iterdir()) == []


def test_a_damaged_file_is_named(convoy: Convoy) -> None:
    path = Path("outputs/calibration/a40.json")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert convoy("plan", *WORDS, folder=None).code == 0  # an empty record: nothing was measured
    path.write_text('{"device": 1, "workspace": {}}')
    done = convoy("plan", *WORDS, folder=None)
    assert done.code == 2
    assert f"hardware={path}: is not a calibration" in done.err
