"""Images/s that one process decodes, crops and resizes with 1 to 16 threads, beside libjpeg-turbo alone.

The goal is 0.9 times the threads times the rate of one thread, up to the number of cores.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.folder_loader import decode_only, our_arms
from benchmarks.photos import write_folder


def figures(device: str) -> Iterator[tuple[str, object]]:
    """Yield images/s per number of threads, the share of linear growth, and images/s of decoding alone."""
    cores = len(os.sched_getaffinity(0))
    images = 1024 if device == "cuda" else 64
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), images)
        one = 0.0
        for workers in (1, 2, 4, 8, 16):
            if workers > max(cores, 2):
                break
            training, _ = our_arms(Path(folder), 64, workers)
            training()  # opens the files once
            rate = max(training() for _ in range(2))
            one = one or rate
            yield f"{workers} threads, images/s", rate
            yield f"{workers} threads, share of {workers} times one", rate / (workers * one)
            yield f"{workers} threads, decoding alone, images/s", decode_only(Path(folder), workers)
