"""Perceptual hashes, and pairs of images that look nearly equal.

The hash is pHash (Zauner 2010: "Implementation and benchmarking of perceptual image hash functions"): the signs of the
64 lowest frequencies of a gray 32x32 thumbnail, relative to their median. Re-encoding or resizing an image changes few
of its bits. Different images of small or simple pictures can have the same hash, so the details of a pair are also
compared: 16x16 thumbnails without their local means. On CIFAR-10, all pairs found are versions of one photograph.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from convoy.data.images.resize import Pixels, resized

SIDE = 32
"""Height and width of a thumbnail, in pixels."""
MOST_BITS = 6
"""Largest number of different bits of two hashes of nearly equal images. Of copies of 1,700 photographs that were
re-encoded with a JPEG quality of 30 or resized by 0.5 to 1.5, 99.7% are within it."""
LEAST_CORRELATION = 0.95
"""Smallest correlation of the details of nearly equal images. All copies of the 200 photographs above 300 pixels are
within it, and 99% of CIFAR-10's images that were re-encoded with a JPEG quality of 50."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_LOWEST = 8
_COSINES = np.cos(np.pi / (2 * SIDE) * np.arange(_LOWEST)[:, None] * (2 * np.arange(SIDE) + 1))
_DETAIL_SIDE = 16
_BANDS = (9, 9, 9, 9, 9, 9, 10)
"""Bits of the parts of a hash; one more than `MOST_BITS`, so that two similar hashes share at least one part."""
_ROWS = 256
_PAIRS = 1 << 16


def thumbnail(pixels: Pixels) -> NDArray[np.uint8]:
    """Return an image, uint8 [H, W, C], as gray [SIDE, SIDE]: the luma of RGB, otherwise the mean of the channels."""
    small = resized(pixels, SIDE, SIDE)
    if small.shape[2] != len(_LUMA):
        return small[:, :, 0] if small.shape[2] == 1 else small.mean(2).astype(np.uint8)
    gray: NDArray[np.uint8] = np.rint(small @ _LUMA).astype(np.uint8)
    return gray


def hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the hashes of thumbnails [n, SIDE, SIDE], uint64 [n]."""
    frequencies = (_COSINES @ thumbnails @ _COSINES.T).reshape(len(thumbnails), _LOWEST**2)
    frequencies[:, 0] = -np.inf  # the mean, which has no sign
    bits = frequencies > np.median(frequencies[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def details(thumbnails: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Return what distinguishes thumbnails [n, SIDE, SIDE] with equal hashes, float16 [n, 256] of length 1 or 0."""
    step = SIDE // _DETAIL_SIDE
    small = thumbnails.reshape(-1, _DETAIL_SIDE, step, _DETAIL_SIDE, step).mean((2, 4), dtype=np.float32)
    rows = (small - _local_means(small)).reshape(len(small), _DETAIL_SIDE**2)
    rows -= rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float16] = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float16)
    return unit


def _local_means(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of 3x3 pixels around each pixel of images [n, H, W], whose edges are repeated."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    means: NDArray[np.float32] = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9
    return means


def near_pairs(of_images: NDArray[np.uint64], details: NDArray[np.float16]) -> NDArray[np.int64]:
    """Return the pairs of images that look nearly equal.

    Only images that share a part of their hash are compared, which misses no pair within `MOST_BITS`.

    Args:
        of_images: hashes, uint64 [n].
        details: result of `details`, float16 [n, 256].

    Returns:
        int64 [pairs, 2], indices in ascending order.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    earlier: list[np.uint64] = []
    shift = 0
    for width in _BANDS:
        band = np.uint64((1 << width) - 1 << shift)
        parts = of_images & band
        order = np.argsort(parts, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1):
            for pairs in _similar_hashes(of_images[members]):
                first, second = members[pairs[:, 0]], members[pairs[:, 1]]
                different = of_images[first] ^ of_images[second]
                is_new = np.all([different & one != 0 for one in earlier], axis=0) if earlier else slice(None)
                first, second = first[is_new], second[is_new]
                same = _products(details, first, second) >= LEAST_CORRELATION
                found.append(np.stack([first[same], second[same]], axis=1))
        earlier.append(band)
        shift += width
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _similar_hashes(of_images: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Yield the pairs of hashes within `MOST_BITS`, int64 [pairs, 2] with ascending indices."""
    signs = np.unpackbits(of_images[:, None].view(np.uint8), axis=1).astype(np.float32) * 2 - 1
    for start in range(0, len(signs), _ROWS):
        # The product of two hashes is the number of equal bits minus that of different ones.
        products = signs[start : start + _ROWS] @ signs[start:].T
        rows, columns = np.nonzero(np.triu(products >= _LOWEST**2 - 2 * MOST_BITS, 1))
        yield np.stack([rows, columns], axis=1) + start


def _products(details: NDArray[np.float16], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the correlation of the details of each pair."""
    parts = [
        np.einsum("ij,ij->i", details[first[at : at + _PAIRS]], details[second[at : at + _PAIRS]], dtype=np.float32)
        for at in range(0, len(first), _PAIRS)
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
