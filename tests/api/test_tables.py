"""Ledgers and plans as objects: the figures of the commands, and tables for every reader."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
import torch
import torchvision
from tests.conftest import Run
from torch import nn

import convoy
from convoy.ledger.rows import COLUMNS

PLAN = ("model=vgg16", "data=imagenet", "trainer.global_batch_size=64")


def html_rows(text: str) -> list[list[str]]:
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", text)]


def test_the_ledger_of_a_module_is_that_of_the_command(convoy: Callable[..., Run]) -> None:
    import convoy as api

    network = torchvision.models.vgg16()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ledger = api.ledger(network, (3, 224, 224))
    assert isinstance(ledger, api.Ledger)
    assert ledger.total("params") == 138_357_544
    command = json.loads(convoy("ledger", "model=vgg16", "data=imagenet", "trainer.precision=32", "format=json").out)
    assert ledger.total("macs") == command["totals"]["macs"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    frame = ledger.to_pandas()
    assert list(frame.columns) == list(COLUMNS)
    assert frame["params"].sum() == 138_357_544
    rows = html_rows(ledger._repr_html_())
    assert len(rows) == len(ledger.rows) + 2
    assert rows[-1][0] == "total"
    assert "138,357,544" in rows[-1]
    assert "| **total** |" in ledger.to_markdown()
    assert repr(ledger).startswith("VGG: images 3x224x224, precision 32")


def test_the_ledger_of_words_is_that_of_the_command(convoy: Callable[..., Run]) -> None:
    import convoy as api

    words = ("model=vgg16", "data=imagenet", "trainer.precision=32")
    command = json.loads(convoy("ledger", *words, "format=json").out)
    ledger = api.ledger(*words)
    assert isinstance(ledger, api.Ledger)
    assert [ledger.total(name) for name in ("params", "macs", "saved_bytes")] == [
        command["totals"][name] for name in ("params", "macs", "saved_bytes")
    ]
    with pytest.raises(api.UserError, match="vgg16"):
        api.ledger("model=vg16")
    with pytest.raises(api.UserError, match="applies to a run"):
        api.ledger("model=vgg16", "resume=latest")


def test_a_module_that_does_not_take_the_images_is_a_mistake() -> None:
    with pytest.raises(convoy.UserError, match=r"network=Conv2d: .* pass \(channels, height, width\)"):
        convoy.ledger(nn.Conv2d(3, 4, 3), (1, 8, 8))

    class Dependent(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    with pytest.raises(convoy.UserError, match="network=Dependent: "):
        convoy.ledger(Dependent(), (3, 8, 8))


def test_the_package_of_ledgers_is_still_a_package() -> None:
    import convoy.ledger.rows
    from convoy.ledger import rows

    assert rows is convoy.ledger.rows
    assert callable(convoy.ledger)


def test_a_plan_is_that_of_the_command(convoy: Callable[..., Run]) -> None:
    import convoy as api

    plan = api.plan(*PLAN, hardware="v100")
    assert plan.as_data() == json.loads(convoy("plan", *PLAN, "hardware=v100", "format=json").out)
    assert plan == api.plan(*PLAN, "hardware=v100")
    assert repr(plan).rstrip() == convoy("plan", *PLAN, "hardware=v100").out.rstrip()
    frame = plan.to_pandas()
    assert frame["peak_allocated_bytes"].tolist() == [plan.peak.allocated_bytes]
    rows = html_rows(plan._repr_html_())
    assert rows[0] == ["vgg16 on v100", "memory"]
    assert "| peak allocated |" in plan.to_markdown()


def test_plans_are_listed_by_card(convoy: Callable[..., Run]) -> None:
    import convoy as api

    plans = api.plans(*PLAN, "trainer.precision=bf16-mixed", hardware=["v100", "a100"])
    assert plans["a100"].fits is True
    with pytest.raises(api.UserError, match=r"bfloat16|bf16"):
        _ = plans["v100"]
    command = convoy("plan", *PLAN, "trainer.precision=bf16-mixed", "hardware=v100,a100", "format=json")
    assert plans.as_data() == json.loads(command.out)
    assert [row[0] for row in html_rows(plans._repr_html_())] == ["card", "v100", "a100"]
    assert plans.to_pandas()["hardware"].tolist() == ["v100", "a100"]
    with pytest.raises(api.UserError, match="hardware: names several cards"):
        api.plan(*PLAN, hardware="v100,a100")
    with pytest.raises(api.UserError, match="hardware=v1000: no such option; did you mean v100"):
        api.plan(*PLAN, hardware="v1000")
