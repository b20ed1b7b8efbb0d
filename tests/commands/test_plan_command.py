"""convoy plan as one meets it: figures, cards by overrides alone, all cards, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Run

Convoy = Callable[..., Run]
RESNET = ("plan", "model=resnet18", "model.stem=small", "data=cifar10", "trainer.global_batch_size=512")


def test_a_card_can_be_described_by_overrides(convoy: Convoy) -> None:
    words = (*RESNET, "format=json", "hardware.context_bytes=500000000", "trainer.precision=32")
    plan = json.loads(convoy(*words, "hardware.usable_bytes=16000000000").out)
    assert plan["fits"] is True
    assert plan["device_total_bytes"] == plan["peak_reserved_bytes"] + 500_000_000
    assert plan["slack_bytes"] == 16_000_000_000 - plan["device_total_bytes"]
    assert plan["largest_micro_batch"] > plan["micro_batch_size"] == 512
    counted = [size for name, size in plan["categories"].items() if name != "context" and size is not None]
    assert sum(counted) == plan["peak_allocated_bytes"]
    small = json.loads(convoy(*words, "hardware.usable_bytes=2400000000").out)
    assert small["fits"] is False
    assert small["slack_bytes"] < 0
    assert small["fitting_micro_batch"] * small["fitting_accumulation"] == 512
    assert small["fitting_micro_batch"] <= small["largest_micro_batch"] < 512
    assert list(Path().iterdir()) == []


def test_auto_chooses_a_micro_batch_that_divides_the_global_batch(convoy: Convoy) -> None:
    words = ("hardware.usable_bytes=2400000000", "hardware.context_bytes=500000000", "trainer.precision=32")
    plan = json.loads(convoy(*RESNET, *words, "trainer.micro_batch_size=auto", "format=json").out)
    assert plan["fits"] is True
    assert plan["accumulation"] > 1
    assert plan["micro_batch_size"] * plan["accumulation"] == 512


def test_every_card_has_a_line_with_its_faults(convoy: Convoy) -> None:
    done = convoy(*RESNET, "hardware=*", "trainer.precision=bf16-mixed")
    lines = {line.split()[0]: line.split() for line in done.out.splitlines() if line}
    assert {"a100", "a100_40gb", "a100_80gb", "a40", "l40s", "p100", "v100"} <= set(lines)
    assert lines["a100_80gb"][1:3] == ["bf16-mixed", "79.15"]
    assert "v100: trainer.precision=bf16-mixed: hardware=v100 has no bfloat16" in done.out
    table = done.out.partition("\n\n")[2].partition("\n\n")[0].splitlines()[:8]
    assert max(map(len, table)) <= 80
    two = json.loads(convoy(*RESNET, "hardware=v100,a100_80gb", "format=json").out)
    assert [plan["precision"] for plan in two] == ["16-mixed", "bf16-mixed"]
    assert two[0]["peak_allocated_bytes"] == two[1]["peak_allocated_bytes"]
    assert two[0]["largest_micro_batch"] < two[1]["largest_micro_batch"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["plan", "ledger"])
def test_too_small_an_image_is_reported_in_one_line_without_a_torch_traceback(verb: str, shell: Convoy) -> None:
    done = shell(verb, "model=densenet121", "data.image_size=28")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.endswith("data.image_size=29 is the smallest that works, or 28 with model.stem=small")


def test_the_cpu_has_a_peak_and_no_verdict(convoy: Convoy) -> None:
    plan = json.loads(convoy(*RESNET, "hardware=cpu", "format=json").out)
    assert plan["peak_reserved_bytes"] == plan["peak_allocated_bytes"]
    assert plan["fits"] is None
    assert "context" not in plan["categories"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("modle=vgg16",), "did you mean model?"),
        (("format=jsno",), "did you mean json?"),
        (("trainer.compile=true",), "memory of a training unpredictably"),
        (("hardware.usable_bytes=1000",), "hardware.context_bytes"),
        (("hardware=v100,a41",), "hardware=a41: no such option; did you mean a40?"),
        (("resume=latest",), "the planner starts none"),
        (("trainer.micro_batch_size=many",), "null, auto or a whole number"),
        (("model=alexnet", "data.image_size=32"), "data.image_size"),
        (("-m",), "name several cards with hardware="),
    ],
)
def test_a_mistake_ends_in_one_message_and_exit_code_2(convoy: Convoy, words: tuple[str, ...], said: str) -> None:
    done = convoy("plan", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.slow
def test_activation_checkpointing_saves_memory_and_needs_blocks(
    convoy: Convoy,
) -> None:
    words = (*RESNET, "hardware=v100", "format=json")
    kept = json.loads(convoy(*words).out)
    again = json.loads(convoy(*words, "trainer.activation_checkpointing=true").out)
    assert again["categories"]["activations"] < 0.6 * kept["categories"]["activations"]
    refused = convoy("plan", "model=lenet5", "trainer.activation_checkpointing=true")
    assert refused.code == 2
    assert "finds no blocks in lenet5" in refused.err
