"""Synchronizations of the host with the GPU in steps 20 to 40 of 15 kinds of run; the goal is 0.

On a GPU, `torch.cuda.set_sync_debug_mode("warn")` reports them. On a CPU, reads of a scalar tensor are counted, which
are synchronizations on a GPU if the tensor lies there: the counts are upper bounds.
"""

from __future__ import annotations

import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.photos import write_folder
from convoy.commands.main import main as convoy

FIRST, LAST = 20, 40
"""Optimizer steps between which synchronizations are counted."""

DIGITS = ("data=digits", "trainer.global_batch_size=32")
SMALL = ("data.image_size=32", "trainer.global_batch_size=16")
RUNS: dict[str, tuple[str, ...]] = {
    "default": DIGITS,
    "augmented": (*DIGITS, "data.augment.pad_crop=2", "data.augment.flip=true", "data.augment.cutout=3"),
    "folder": ("data=image_folder", "data.root={photos}", *SMALL),
    "shards jpeg": ("data=shards", "data.root={jpeg}", *SMALL),
    "shards raw": ("data=shards", "data.root={raw}", *SMALL),
    "ema": (*DIGITS, "trainer.ema_decay=0.99"),
    "mixup": (*DIGITS, "task.mixup=0.2"),
    "mixup and cutmix": (*DIGITS, "task.mixup=0.2", "task.cutmix=1.0"),
    "clipping": (*DIGITS, "trainer.clip_grad_norm=1.0"),
    "accumulation": (*DIGITS, "trainer.micro_batch_size=16"),
    "16-mixed": (*DIGITS, "trainer.precision=16-mixed"),
    "16-mixed with clipping": (*DIGITS, "trainer.precision=16-mixed", "trainer.clip_grad_norm=1.0"),
    "float32": (*DIGITS, "trainer.precision=32"),
    "deterministic": (*DIGITS, "trainer.deterministic=true"),
    "compiled": (*DIGITS, "trainer.compile=true"),
}
_ON_A_CPU = ("default", "folder", "shards raw", "ema", "clipping")


class _ScalarReads(TorchDispatchMode):
    """Counter of reads of scalar tensors, by the line of Python that reads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.found[_caller()] += 1
        return func(*args, **(kwargs or {}))


class CountSynchronizations(pl.Callback):
    """Lightning callback that counts synchronizations between two optimizer steps."""

    found: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        self._reads = _ScalarReads()
        self._is_counting = False
        self._show = warnings.showwarning

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Begin to count."""
        if trainer.global_step < FIRST or self._is_counting or trainer.global_step >= LAST:
            return
        self._is_counting = True
        type(self).found = self._reads.found
        if torch.cuda.is_available():
            warnings.simplefilter("always")
            warnings.showwarning = self._count
            torch.cuda.set_sync_debug_mode("warn")
        else:
            self._reads.__enter__()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Stop counting."""
        if not self._is_counting or trainer.global_step < LAST:
            return
        self._is_counting = False
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = self._show
        else:
            self._reads.__exit__(None, None, None)

    def _count(self, message: Warning | str, *args: Any, **kwargs: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            self._reads.found[_caller()] += 1


def _caller() -> str:
    """Return the innermost line of Python outside torch and this module, as file:line."""
    others = (__file__, str(Path(torch.__file__).parent), warnings.__file__)
    frame = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(others)][-1]
    return f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}"


def figures(device: str) -> Iterator[tuple[str, object]]:
    """Yield the number of synchronizations in 20 steps of each run, with the lines that cause them.

    Raises:
        SystemExit: at the end, if a run failed.
    """
    failed = []
    with tempfile.TemporaryDirectory() as root:
        folders = {name: f"{root}/{name}" for name in ("photos", "jpeg", "raw")}
        write_folder(Path(folders["photos"]), 64)
        for name in ("jpeg", "raw"):
            words = ["data=image_folder", f"data.root={folders['photos']}", "data.image_size=32"]
            convoy(["pack", *words, f"output={folders[name]}", f"format={name}"])
        for name, words in RUNS.items():
            if device == "cpu" and name not in _ON_A_CPU:
                continue
            CountSynchronizations.found = Counter()
            given = [word.format(**folders) for word in words]
            code = _code_of(["train", *given, *_common(device), f"folder={root}/{name.replace(' ', '_')}"])
            found = CountSynchronizations.found
            lines = ", ".join(f"{line} {count}" for line, count in found.most_common(4))
            if code != 0:
                failed.append(name)
                yield name, code
            else:
                yield name, f"{found.total()} ({lines})" if lines else 0
        if failed:
            raise SystemExit(f"these runs failed: {', '.join(failed)}")


def _code_of(words: list[str]) -> int | str:
    """Run a command, and return its exit code, or the exception that no command should raise."""
    try:
        code = convoy(words)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"[:200]
    return f"exit code {code}" if code else 0


def _common(device: str) -> list[str]:
    target = f"+callback.count._target_={__name__}.{CountSynchronizations.__name__}"
    length = [f"trainer.max_steps={LAST + 5}", "trainer.log_every_steps=100", "trainer.test=false"]
    return [f"trainer.gpus={1 if device == 'cuda' else 0}", "logger=csv", "ledger.measure_steps=0", *length, target]
