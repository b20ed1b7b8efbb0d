from __future__ import annotations

import pytest

from convoy.config.batch import divide
from convoy.config.faults import UserError


@pytest.mark.parametrize(
    ("total", "micro", "ranks", "expected"),
    [(256, None, 1, (256, 1)), (256, None, 4, (64, 1)), (256, 32, 1, (32, 8)), (256, 32, 4, (32, 2))],
)
def test_a_global_batch_is_micro_batch_times_accumulation_times_ranks(
    total: int, micro: int | None, ranks: int, expected: tuple[int, int]
) -> None:
    sizes = divide(total, micro, ranks)
    assert (sizes.micro_batch_size, sizes.accumulation) == expected
    assert sizes.micro_batch_size * sizes.accumulation * sizes.world_size == total


@pytest.mark.parametrize(("total", "micro", "ranks"), [(100, None, 3), (100, 7, 2), (5, 8, 1), (257, 32, 4)])
def test_an_indivisible_batch_names_the_nearest_divisible_sizes(total: int, micro: int | None, ranks: int) -> None:
    with pytest.raises(UserError) as caught:
        divide(total, micro, ranks)
    named = [int(word) for word in caught.value.faults[0].remedy.split() if word.isdigit()]
    around = [size for size in range(1, 1000) if size % (ranks * (micro or 1)) == 0]
    expected = [size for size in around if size < total][-1:] + [size for size in around if size > total][:1]
    assert named == expected
    for size in named:
        divide(size, micro, ranks)
