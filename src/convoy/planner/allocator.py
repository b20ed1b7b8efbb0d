"""PyTorch's CUDA caching allocator as a model: what a row of allocations and frees reserves of a card's memory.

The rules are those of c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h (torch 2.7 to 2.14) for one
stream and the default settings, or with `expandable_segments:True`:

- A size is rounded up to 512 bytes. Up to 1 MiB it is served from the small pool, else from the large one.
- The smallest free block of the pool that is large enough is taken, of equal ones the one at the lowest address.
- Where there is none, a segment is taken from the card: 2 MiB for the small pool; for the large one 20 MiB where
  less than 10 MiB is asked for, else the size rounded up to 2 MiB.
- What is left of a block is split off if it is 512 bytes or more in the small pool, more than 1 MiB in the large.
- A freed block is merged with free neighbours of its segment. Segments are given back only where the card is full.
- Expandable: a pool is one range of addresses, to whose free end pages of 2 MiB (small) or 20 MiB (large) are mapped;
  whatever is 512 bytes or more is split off in both pools, and whole free pages are what is given back.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

MIB = 2**20
SMALLEST_BLOCK = 512
SMALL_LIMIT = MIB
SMALL_SEGMENT, LARGE_SEGMENT = 2 * MIB, 20 * MIB
OWN_SEGMENT = 10 * MIB
SEGMENT_STEP = 2 * MIB

_FAR_APART = 2**50
"""Between the addresses of two segments, so that none touches another."""


class OutOfMemoryError(Exception):
    """The card has no room for a segment, even after all that is free was given back.

    Attributes:
        wanted_bytes: that the allocation asked for.
        reserved_bytes: that the allocator held of the card then.
    """

    def __init__(self, wanted_bytes: int, reserved_bytes: int) -> None:
        self.wanted_bytes, self.reserved_bytes = wanted_bytes, reserved_bytes
        super().__init__(f"no room for {wanted_bytes} bytes beside {reserved_bytes} reserved")


@dataclass(eq=False, slots=True)
class Block:
    """A piece of a segment: in use, free, or, in an expandable segment, an address without memory."""

    address: int
    size: int
    pool: _Pool
    free: bool = True
    mapped: bool = True
    previous: Block | None = None
    next: Block | None = None


@dataclass(eq=False)
class _Pool:
    """Free blocks by size and address, and the stretches of addresses without memory by address."""

    is_small: bool
    free: list[tuple[int, int, Block]] = field(default_factory=list)
    unmapped: list[tuple[int, Block]] = field(default_factory=list)

    @property
    def page(self) -> int:
        return SMALL_SEGMENT if self.is_small else LARGE_SEGMENT

    def add(self, block: Block) -> None:
        if block.mapped:
            insort(self.free, (block.size, block.address, block))
        else:
            insort(self.unmapped, (block.address, block))

    def remove(self, block: Block) -> None:
        if block.mapped:
            del self.free[bisect_left(self.free, (block.size, block.address))]
        else:
            del self.unmapped[bisect_left(self.unmapped, (block.address,))]

    def take(self, size: int) -> Block | None:
        """The free block that fits best, out of the pool."""
        index = bisect_left(self.free, (size,))
        return self.free.pop(index)[2] if index < len(self.free) else None


class Allocator:
    """One device's allocator.

    Args:
        limit_bytes: the card's memory without the CUDA context; None: no end.
        expandable: whether `expandable_segments:True` is set.

    Attributes:
        allocated_bytes: in blocks in use, with what was not split off them; `torch.cuda.memory_allocated`.
        reserved_bytes: in all segments; `torch.cuda.memory_reserved`.
        peak_allocated_bytes: the most so far, like the next.
        peak_reserved_bytes: the most so far.
        retries: how often everything free was given back to make room.
    """

    def __init__(self, limit_bytes: int | None = None, *, expandable: bool = False) -> None:
        self.allocated_bytes = self.reserved_bytes = 0
        self.peak_allocated_bytes = self.peak_reserved_bytes = 0
        self.retries = 0
        self._limit, self._expandable = limit_bytes, expandable
        self._small, self._large = _Pool(is_small=True), _Pool(is_small=False)
        self._next_address = 0
        if expandable:
            for pool in (self._small, self._large):
                pool.add(Block(self._new_address(), _FAR_APART // 2, pool, mapped=False))

    def allocate(self, size_bytes: int) -> Block:
        """A block of at least so many bytes, above 0.

        Raises:
            OutOfMemoryError: there is no room for it.
        """
        size = rounded(size_bytes, SMALLEST_BLOCK)
        pool = self._small if size <= SMALL_LIMIT else self._large
        block = pool.take(size) or self._grow(pool, size)
        if block is None:
            self.retries += 1
            self._give_back()
            block = self._grow(pool, size)
        if block is None:
            raise OutOfMemoryError(size_bytes, self.reserved_bytes)
        if self._splits(block, size):
            pool.add(_cut(block, size))
        block.free = False
        self.allocated_bytes += block.size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block

    def free(self, block: Block) -> None:
        """Take a block back into its pool."""
        self.allocated_bytes -= block.size
        block.free = True
        self._settle(block)

    def _splits(self, block: Block, size: int) -> bool:
        rest = block.size - size
        if block.pool.is_small or self._expandable:
            return rest >= SMALLEST_BLOCK
        return rest > SMALL_LIMIT

    def _settle(self, block: Block) -> None:
        """Into the pool, merged with neighbours that are free and of its kind."""
        before, after = block.previous, block.next
        if after is not None and after.free and after.mapped == block.mapped:
            block.pool.remove(after)
            _swallow(block, after)
        if before is not None and before.free and before.mapped == block.mapped:
            block.pool.remove(before)
            _swallow(before, block)
            block = before
        block.pool.add(block)

    def _grow(self, pool: _Pool, size: int) -> Block | None:
        """A block of new memory of the card, out of the pool; None where there is no room."""
        if self._expandable:
            return self._expand(pool, size)
        segment = segment_bytes(size)
        if not self._reserve(segment):
            return None
        return Block(self._new_address(), segment, pool)

    def _reserve(self, size: int) -> bool:
        if self._limit is not None and self.reserved_bytes + size > self._limit:
            return False
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        return True

    def _new_address(self) -> int:
        self._next_address += _FAR_APART
        return self._next_address

    def _give_back(self) -> None:
        for pool in (self._small, self._large):
            for _, _, block in list(pool.free):
                if self._expandable:
                    self._unmap(block)
                elif block.previous is None and block.next is None:
                    pool.remove(block)
                    self.reserved_bytes -= block.size

    def _expand(self, pool: _Pool, size: int) -> Block | None:
        """Map pages at the lowest place whose free and unmapped addresses together have room."""
        block = _first_with_room(pool, size)
        if not block.mapped:
            mapped = self._map(block, min(block.size, size))
            if mapped is None:
                return None
            block = mapped
        while block.size < size:
            after = block.next
            assert after is not None  # there is room
            mapped = self._map(after, min(size - block.size, after.size))
            if mapped is None:
                return None
            block = mapped
        pool.remove(block)
        return block

    def _map(self, block: Block, size: int) -> Block | None:
        """The free block that unmapped addresses become, from their beginning, with what is free around them."""
        pages = rounded(size, block.pool.page)
        if not self._reserve(pages):
            return None
        block.pool.remove(block)
        if block.size > pages:
            block.pool.add(_cut(block, pages))
        block.mapped = True
        before = block.previous
        self._settle(block)
        return before if before is not None and before.free and before.mapped else block

    def _unmap(self, block: Block) -> None:
        """Give the whole pages of a free block back."""
        pool = block.pool
        begin = rounded(block.address, pool.page)
        end = (block.address + block.size) // pool.page * pool.page
        if begin >= end:
            return
        pool.remove(block)
        if block.address < begin:
            rest = _cut(block, begin - block.address)
            pool.add(block)
            block = rest
        if block.size > end - begin:
            pool.add(_cut(block, end - begin))
        self.reserved_bytes -= block.size
        block.mapped = False
        self._settle(block)


class Heap:
    """The CPU's memory, of which each tensor has just what it asks for and gives it back at once.

    Attributes:
        allocated_bytes: in use.
        peak_allocated_bytes: the most so far.
    """

    def __init__(self) -> None:
        self.allocated_bytes = self.peak_allocated_bytes = 0

    @property
    def peak_reserved_bytes(self) -> int:
        return self.peak_allocated_bytes

    def allocate(self, size_bytes: int) -> int:
        """So many bytes."""
        self.allocated_bytes += size_bytes
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return size_bytes

    def free(self, block: int) -> None:
        """Give them back."""
        self.allocated_bytes -= block


def rounded(size: int, step: int) -> int:
    """Up to a multiple of step."""
    return -(-size // step) * step


def segment_bytes(size: int) -> int:
    """The segment that is taken from the card for a block of a size."""
    if size <= SMALL_LIMIT:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if size < OWN_SEGMENT else rounded(size, SEGMENT_STEP)


def _first_with_room(pool: _Pool, size: int) -> Block:
    for _, unmapped in pool.unmapped:
        before = unmapped.previous
        first = before if before is not None and before.free else unmapped
        room, block = 0, first
        while True:
            room += block.size
            if room >= size:
                return first
            if block.next is None or not block.next.free:
                break
            block = block.next
    raise AssertionError("the last stretch of addresses has room for everything")


def _cut(block: Block, size: int) -> Block:
    """Shorten a block to a size; the rest, behind it."""
    rest = Block(block.address + size, block.size - size, block.pool, True, block.mapped, block, block.next)
    if block.next is not None:
        block.next.previous = rest
    block.next, block.size = rest, size
    return rest


def _swallow(block: Block, after: Block) -> None:
    """Make a block longer by its neighbour."""
    block.size += after.size
    block.next = after.next
    if after.next is not None:
        after.next.previous = block
