"""Startup time of commands, and time to the first optimizer step of training.

The commands need no torch; the time of `import hydra`, which every program of this kind needs, is subtracted. The first
step of `convoy train` on Fashion-MNIST is compared with the same network and batch size on the same images in the style
of Hydra and Lightning templates (benchmarks/template.py), each with its default precision. All times are measured from
the start of the process.

    python -m benchmarks.startup --rounds 5 --models resnet18
    python -m benchmarks.startup --convoy trainer.precision=32 logger=csv --template data.num_workers=2
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import Goal, Result
from benchmarks.rounds import Arm, machine, take_turns

ROOT = Path(__file__).resolve().parents[1]
CONVOY = ("-m", "convoy.commands.main")
ANSWERS = {
    "convoy --help": (*CONVOY, "--help"),
    "convoy train --help": (*CONVOY, "train", "--help"),
    "convoy train --cfg job": (*CONVOY, "train", "--cfg", "job"),
    "a typo refused": (*CONVOY, "train", "trainer.gpu=2"),
}
MAX_BEYOND_HYDRA_S = 0.5
MAX_SHARE_OF_TEMPLATE = 0.8
FIRST_STEP = ("-m", "benchmarks.first_step")
TEMPLATE = (*FIRST_STEP, "benchmarks.template", "data.root=.")
TRAINING = (*FIRST_STEP, *CONVOY[1:], "train", "data=fashion_mnist", "data.root=.")
NETWORKS = {"lenet5": "LeNet5", "resnet18": "ResNet18"}
"""Names of the networks in conf/model and their classes in benchmarks/template.py."""
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Folder of Debian's package."""


def seconds_of(words: Sequence[str], folder: Path, *, fails: bool = False) -> float:
    """Return the seconds that a Python process takes from start to end.

    Args:
        words: Arguments of Python.
        folder: Working folder of the process.
        fails: True if the process must end with exit code 2 instead of 0.

    Raises:
        RuntimeError: If the process ends with another exit code.
    """
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, env=_environment())
    seconds = time.perf_counter() - began
    if done.returncode != (2 if fails else 0):
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return seconds


def answers(rounds: int, folder: Path) -> list[Result]:
    """Measure the seconds that each command takes beyond the import of Hydra."""

    def arm(words: Sequence[str], *, fails: bool = False) -> Arm:
        return lambda: seconds_of(words, folder, fails=fails)

    arms = {"import hydra": arm(("-c", "import hydra"))}
    arms |= {name: arm(words, fails="typo" in name) for name, words in ANSWERS.items()}
    turns = take_turns("time to answer", arms, rounds, unit="s", digits=2)
    return [
        Result(
            "time to answer",
            name,
            "import hydra",
            turns.differences(name),
            turns.null_differences(),
            Goal(MAX_BEYOND_HYDRA_S, at_least=False),
            unit="s beyond the peer",
            busy_cores=turns.busy_cores,
        )
        for name in ANSWERS
    ]


def unpack_fashion_mnist(folder: Path) -> None:
    """Unpack Fashion-MNIST into the layout that torchvision reads."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in FASHION_MNIST.glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))


def first_step(
    model: str, rounds: int, folder: Path, convoy: Sequence[str] = (), template: Sequence[str] = ()
) -> Result:
    """Measure Convoy's time to the first step as a share of the template's.

    Args:
        model: Name of a network of `NETWORKS`.
        rounds: Number of rounds.
        folder: Working folder of both, with the files of `unpack_fashion_mnist`.
        convoy: Further overrides for Convoy.
        template: Further overrides for the template.
    """
    theirs = (*TEMPLATE, f"model.network._target_=benchmarks.template.{NETWORKS[model]}", *template)
    arms: dict[str, Arm] = {
        "template": lambda: seconds_of(theirs, folder),
        "convoy": lambda: seconds_of((*TRAINING, f"model={model}", *convoy), folder),
    }
    turns = take_turns(f"time to first optimizer step, {model}", arms, rounds, unit="s", digits=2)
    share = Result(
        f"time to first step, {model}",
        "convoy",
        "template",
        turns.ratios("convoy"),
        turns.null_ratios(),
        Goal(MAX_SHARE_OF_TEMPLATE, at_least=False),
        unit="of the peer's time",
        null_unit="times",
        busy_cores=turns.busy_cores,
    )
    print(share.line())
    return share


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--models", nargs="*", choices=NETWORKS, default=list(NETWORKS), help="networks whose first step is measured"
    )
    parser.add_argument(
        "--convoy", nargs="*", default=[], metavar="KEY=VALUE", help="further overrides for its first step"
    )
    parser.add_argument(
        "--template", nargs="*", default=[], metavar="KEY=VALUE", help="further overrides for its first step"
    )
    given = parser.parse_args(words)
    print(machine("torch", "pytorch-lightning", "hydra-core"))
    with tempfile.TemporaryDirectory() as folder:
        results = answers(given.rounds, Path(folder))
        for result in results:
            print(result.line())
        if not FASHION_MNIST.is_dir():
            print(f"the first step is skipped: no Fashion-MNIST in {FASHION_MNIST}")
            return results
        unpack_fashion_mnist(Path(folder))
        return results + [
            first_step(model, given.rounds, Path(folder), given.convoy, given.template) for model in given.models
        ]


if __name__ == "__main__":
    main()
