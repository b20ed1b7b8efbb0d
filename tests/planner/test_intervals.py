"""The interval of a card that was not calibrated, and what fits: its upper end."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from rich.console import Console

from convoy.config.schema import Config
from convoy.planner.calibration import Calibration
from convoy.planner.intervals import MIB, WITH_COPIES, WITHOUT_COPIES, Spread, spread_of
from convoy.planner.memory_plan import Plan, Planner
from convoy.planner.plan_table import needed, rendered
from convoy.training import preflight

GIB = 2**30
WORDS = ("model=resnet18", "model.stem=small", "data=cifar10", "trainer.global_batch_size=512", "hardware=a40")


def read(*words: str) -> Config:
    return preflight.read([*WORDS, *words], to_run=False)


@cache
def planner_of(*words: str) -> Planner:
    return Planner(read(*words))


BF16, FLOAT32 = "trainer.precision=bf16-mixed", "trainer.precision=32"
CONTIGUOUS = "trainer.channels_last=false"


def text(plan: Plan) -> str:
    screen = Console(width=80, highlight=False)
    with screen.capture() as captured:
        screen.print(rendered(plan))
    return captured.get()


@pytest.mark.parametrize("spread", [WITH_COPIES, WITHOUT_COPIES, Spread()])
def test_the_limit_is_the_most_whose_upper_end_fits(spread: Spread) -> None:
    usable, context = 44 * GIB, 512 * MIB
    limit = spread.limit_bytes(usable, context)
    assert spread.ends(limit, context)[1] <= usable
    assert spread.ends(limit + 16, context)[1] > usable
    assert spread.ends(limit, context)[0] <= limit + context
    assert spread.limit_bytes(GIB // 4, GIB) == 0


def test_copies_widen_the_interval_and_measurements_end_it() -> None:
    card = read().hardware
    last = planner_of(BF16).convolutions(card)
    first = planner_of(FLOAT32, CONTIGUOUS).convolutions(card)
    nothing = Calibration()
    assert spread_of(first, nothing) == WITH_COPIES
    assert spread_of(last, nothing) == WITHOUT_COPIES
    all_of_them = Calibration("A40", "today", {}, 44 * GIB, GIB, {one.signature: {2: 0} for one in first})
    assert spread_of(first, all_of_them) == Spread()
    # Measured for another network, with another size of images: its convolutions are still estimated.
    assert spread_of(first, replace(all_of_them, workspaces={})) == replace(WITH_COPIES, context_bytes=0)


def test_a_training_fits_if_the_upper_end_does() -> None:
    planner, card = planner_of(BF16), read().hardware
    free = planner.plan(card)
    assert free.interval_bytes is not None
    assert free.device_total_bytes is not None
    lower, upper = free.interval_bytes
    assert lower < free.device_total_bytes < upper
    assert planner.plan(replace(card, usable_bytes=upper + MIB)).fits
    between = planner.plan(replace(card, usable_bytes=(free.device_total_bytes + upper) // 2))
    assert between.fits is False
    assert between.largest_micro_batch is not None
    assert between.largest_micro_batch < 512
    assert "may not fit; write trainer.micro_batch_size=256" in text(between)
    assert "does not fit; write" in text(planner.plan(replace(card, usable_bytes=lower * 2 // 3)))
    measured = Calibration("A40", "today", {}, None, card.context_bytes)
    measured.workspaces.update({one.signature: {512: 0} for one in planner.convolutions(card)})
    exact = planner.plan(replace(card, usable_bytes=free.device_total_bytes), measured)
    assert exact.fits
    assert exact.interval_bytes == (exact.device_total_bytes, exact.device_total_bytes)
    assert exact.as_data()["interval"] is None


def test_the_margin_and_the_interval_are_both_kept() -> None:
    planner, card = planner_of(BF16), read().hardware
    taken = planner.plan(card).device_total_bytes
    assert taken is not None
    tight = replace(card, usable_bytes=int(taken / 0.7))
    assert planner.plan(tight, margin=0.2).fits
    assert planner.plan(tight, margin=0.35).fits is False


def test_the_interval_is_printed_within_80_columns() -> None:
    plan = planner_of(FLOAT32, CONTIGUOUS).plan(read().hardware)
    printed = text(plan)
    assert f"not calibrated: {needed(plan)}" in printed
    assert " to " in needed(plan)
    assert "contains 9 in 10 published trainings" in printed
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= 80
    data = plan.as_data()
    assert data["device_lower_bytes"] < data["device_total_bytes"] < data["device_upper_bytes"]
    assert data["interval"].startswith("the interval contains 9 in 10 published trainings; ")
    assert "agrees with 9 in 10 published largest batches" in text(planner_of(BF16).plan(read().hardware))
