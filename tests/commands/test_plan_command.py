"""convoy plan as one meets it: figures, cards by overrides alone, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Run

Convoy = Callable[..., Run]


def test_a_card_described_by_overrides_alone(convoy: Convoy) -> None:
    words = ("plan", "model=resnet18", "data=cifar10", "--format=json", "hardware.context_bytes=500000000")
    plan = json.loads(convoy(*words, "hardware.usable_bytes=16000000000").out)
    assert plan["fits"] is True
    assert plan["device_total_bytes"] == plan["peak_reserved_bytes"] + 500_000_000
    assert plan["largest_micro_batch"] > plan["micro_batch_size"]
    small = json.loads(convoy(*words, "hardware.usable_bytes=600000000").out)
    assert small["fits"] is False
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("modle=vgg16",), "did you mean model?"),
        (("--format=jsno",), "did you mean json?"),
        (("trainer.compile=true",), "can't be predicted"),
        (("hardware=cpu",), "has no GPU memory"),
        (("hardware.usable_bytes=1000",), "hardware.context_bytes"),
    ],
)
def test_a_mistake_ends_in_one_message_and_exit_code_2(convoy: Convoy, words: tuple[str, ...], said: str) -> None:
    done = convoy("plan", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
