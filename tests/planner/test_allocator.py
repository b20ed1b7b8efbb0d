"""The allocator's model against cases worked out by hand from PyTorch's documented rules."""

from __future__ import annotations

import pytest

from convoy.planner.allocator import MIB, Allocator, OutOfMemoryError


def test_sizes_are_rounded_to_512_bytes_and_small_ones_share_a_segment_of_2_mib() -> None:
    allocator = Allocator()
    for size in (1, 512, 513):
        allocator.allocate(size)
    assert allocator.allocated_bytes == 512 + 512 + 1024
    assert allocator.reserved_bytes == 2 * MIB


@pytest.mark.parametrize(
    ("size", "segment"),
    [(MIB, 2 * MIB), (MIB + 1, 20 * MIB), (10 * MIB - 512, 20 * MIB), (10 * MIB, 10 * MIB), (10 * MIB + 1, 12 * MIB)],
)
def test_the_segment_that_is_taken_for_a_size(size: int, segment: int) -> None:
    allocator = Allocator()
    allocator.allocate(size)
    assert allocator.reserved_bytes == segment


def test_a_large_block_keeps_a_rest_of_at_most_1_mib() -> None:
    allocator = Allocator()
    allocator.allocate(11 * MIB)  # of a segment of 12 MiB: 1 MiB is left, and not split off
    assert allocator.allocated_bytes == 12 * MIB
    expandable = Allocator(expandable=True)
    expandable.allocate(11 * MIB)
    assert (expandable.allocated_bytes, expandable.reserved_bytes) == (11 * MIB, 20 * MIB)


def test_the_smallest_hole_that_is_large_enough_is_taken() -> None:
    allocator = Allocator()
    wide, narrow = allocator.allocate(40 * MIB), allocator.allocate(30 * MIB)
    allocator.free(wide)
    allocator.free(narrow)
    assert allocator.allocate(28 * MIB).address == narrow.address
    assert allocator.reserved_bytes == 70 * MIB


@pytest.mark.parametrize("expandable", [False, True])
def test_freed_neighbours_become_one_block(expandable: bool) -> None:
    allocator = Allocator(expandable=expandable)
    blocks = [allocator.allocate(5 * MIB) for _ in range(4)]
    assert allocator.reserved_bytes == 20 * MIB
    for index in (0, 2, 1, 3):
        allocator.free(blocks[index])
    assert allocator.allocate(20 * MIB).address == blocks[0].address
    assert allocator.reserved_bytes == 20 * MIB


def test_a_full_card_releases_free_segments_and_retries() -> None:
    allocator = Allocator(limit_bytes=40 * MIB)
    allocator.free(allocator.allocate(30 * MIB))
    allocator.allocate(40 * MIB)
    assert (allocator.retries, allocator.reserved_bytes) == (1, 40 * MIB)
    with pytest.raises(OutOfMemoryError):
        allocator.allocate(512)


def test_expandable_pages_around_used_blocks_are_released() -> None:
    allocator = Allocator(limit_bytes=62 * MIB, expandable=True)
    first, second = allocator.allocate(40 * MIB), allocator.allocate(20 * MIB)
    allocator.free(first)
    assert allocator.reserved_bytes == 60 * MIB
    allocator.allocate(MIB)  # the small pool takes the last 2 MiB
    again = allocator.allocate(40 * MIB)
    assert again.address == first.address
    allocator.free(second)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (41 * MIB, 62 * MIB)
