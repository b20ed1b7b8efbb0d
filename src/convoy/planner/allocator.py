"""Model of PyTorch's CUDA caching allocator: the memory that a sequence of allocations and frees reserves.

The rules are those of c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h (torch 2.7 to 2.14) for one
stream, with the default settings or with `expandable_segments:True`:

- A size is rounded up to 512 bytes. Sizes up to 1 MiB use the small pool, larger sizes the large pool.
- The allocator takes the smallest free block of the pool that is large enough; of equal blocks, the lowest address.
- Without such a block, it reserves a segment on the device: 2 MiB for the small pool; for the large pool 20 MiB for
  sizes below 10 MiB, otherwise the size rounded up to 2 MiB.
- The rest of a block is split off if it is at least 512 bytes in the small pool, or more than 1 MiB in the large pool.
- A freed block is merged with free neighbours of its segment. Segments are released only if the device is full.
- Expandable segments: a pool is one address range. Pages of 2 MiB (small) or 20 MiB (large) are mapped at its free
  end. Rests of at least 512 bytes are split off in both pools, and whole free pages are released.
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
"""Distance between the addresses of two segments, so that segments are never neighbours."""


class OutOfMemoryError(Exception):
    """Error of an allocation that does not fit on the device, even after all free segments were released.

    Attributes:
        wanted_bytes: Size of the allocation.
        reserved_bytes: Memory that the allocator had reserved.
    """

    def __init__(self, wanted_bytes: int, reserved_bytes: int) -> None:
        self.wanted_bytes, self.reserved_bytes = wanted_bytes, reserved_bytes
        super().__init__(f"no room for {wanted_bytes} bytes beside {reserved_bytes} reserved")


@dataclass(eq=False, slots=True)
class Block:
    """Part of a segment: in use, free, or, in an expandable segment, an address range without memory."""

    address: int
    size: int
    pool: _Pool
    free: bool = True
    mapped: bool = True
    previous: Block | None = None
    next: Block | None = None


@dataclass(eq=False)
class _Pool:
    """Free blocks by size and address, and unmapped address ranges by address."""

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
        """Remove and return the smallest free block that is large enough; None if there is none."""
        index = bisect_left(self.free, (size,))
        return self.free.pop(index)[2] if index < len(self.free) else None


class Allocator:
    """Caching allocator of one device.

    Args:
        limit_bytes: Memory of the device without the CUDA context; None for no limit.
        expandable: Whether `expandable_segments:True` is set.

    Attributes:
        allocated_bytes: Bytes in used blocks, including rests that were not split off (`torch.cuda.memory_allocated`).
        reserved_bytes: Bytes in all segments (`torch.cuda.memory_reserved`).
        peak_allocated_bytes: Maximum of `allocated_bytes`.
        peak_reserved_bytes: Maximum of `reserved_bytes`.
        retries: Number of times that all free segments were released to make room.
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
        """Return a block of at least `size_bytes` bytes (above 0).

        Raises:
            OutOfMemoryError: The device has no room for it.
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
        """Return a block to its pool."""
        self.allocated_bytes -= block.size
        block.free = True
        self._settle(block)

    def _splits(self, block: Block, size: int) -> bool:
        rest = block.size - size
        if block.pool.is_small or self._expandable:
            return rest >= SMALLEST_BLOCK
        return rest > SMALL_LIMIT

    def _settle(self, block: Block) -> None:
        """Add a free block to its pool, merged with free neighbours of the same kind."""
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
        """Return a block of newly reserved memory, not in the pool; None if the limit is reached."""
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
        """Map pages at the lowest address where free and unmapped ranges together are large enough."""
        block = _first_with_room(pool, size)
        if not block.mapped:
            mapped = self._map(block, min(block.size, size))
            if mapped is None:
                return None
            block = mapped
        while block.size < size:
            after = block.next
            assert after is not None  # _first_with_room found enough
            mapped = self._map(after, min(size - block.size, after.size))
            if mapped is None:
                return None
            block = mapped
        pool.remove(block)
        return block

    def _map(self, block: Block, size: int) -> Block | None:
        """Map the beginning of an unmapped block and return the free block that contains it; None without room."""
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
        """Release the whole pages of a free block."""
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
    """CPU memory, where each tensor takes exactly its size and releases it at once.

    Attributes:
        allocated_bytes: Bytes in use.
        peak_allocated_bytes: Maximum of `allocated_bytes`.
    """

    def __init__(self) -> None:
        self.allocated_bytes = self.peak_allocated_bytes = 0

    @property
    def peak_reserved_bytes(self) -> int:
        return self.peak_allocated_bytes

    def allocate(self, size_bytes: int) -> int:
        """Allocate a number of bytes."""
        self.allocated_bytes += size_bytes
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return size_bytes

    def free(self, block: int) -> None:
        """Release an allocation."""
        self.allocated_bytes -= block


def rounded(size: int, step: int) -> int:
    """Round up to a multiple of `step`."""
    return -(-size // step) * step


def segment_bytes(size: int) -> int:
    """Return the size of the segment that is reserved for a block of `size` bytes."""
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
    raise AssertionError("the last address range has room for every size")


def _cut(block: Block, size: int) -> Block:
    """Shorten a block to `size` bytes and return the rest."""
    rest = Block(block.address + size, block.size - size, block.pool, True, block.mapped, block, block.next)
    if block.next is not None:
        block.next.previous = rest
    block.next, block.size = rest, size
    return rest


def _swallow(block: Block, after: Block) -> None:
    """Extend a block by its right neighbour."""
    block.size += after.size
    block.next = after.next
    if after.next is not None:
        after.next.previous = block
