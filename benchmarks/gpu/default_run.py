"""The default run on the GPU, for 20 steps, and the versions of the machine."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from convoy.commands.main import main as convoy


def figures(device: str) -> Iterator[tuple[str, object]]:
    """Yield the versions of torch and CUDA, the card, and the results of the run."""
    yield "torch", torch.__version__
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        yield "card", f"{card.name}, sm_{card.major}{card.minor}, {card.total_memory / 2**30:.1f} GiB"
        yield "CUDA, cuDNN", f"{torch.version.cuda}, {torch.backends.cudnn.version()}"
        yield "architectures", " ".join(torch.cuda.get_arch_list())
    with tempfile.TemporaryDirectory() as root:
        began = time.perf_counter()
        words = ["train", "logger=csv", "trainer.max_steps=20", f"folder={root}/run"]
        code = convoy([*words, f"trainer.gpus={1 if device == 'cuda' else 0}"])
        yield "seconds", time.perf_counter() - began
        if code != 0:
            raise SystemExit(f"the default run ended with exit code {code}")
        summary = json.loads(Path(root, "run", "summary.json").read_text(encoding="utf-8"))
        yield "steps", summary["steps"]
