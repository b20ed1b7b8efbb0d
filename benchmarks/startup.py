"""How long one waits: for an answer of a command, and for the first optimizer step of a training.

Answers are those of commands that need no torch; their times are less that of `import hydra` alone, which any program
of this kind takes. The first step of `convoy train` on Fashion-MNIST is set against that of the same network and batch
size on the same images, written as templates of Hydra and Lightning have it (benchmarks/template.py); each side in the
precision that it chooses. Each figure is of a process from its start.

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
MOST_BEYOND_HYDRA_S = 0.5
MOST_OF_THE_TEMPLATE = 0.8
FIRST_STEP = ("-m", "benchmarks.first_step")
TEMPLATE = (*FIRST_STEP, "benchmarks.template", "data.root=.")
TRAINING = (*FIRST_STEP, *CONVOY[1:], "train", "data=fashion_mnist", "data.root=.")
NETWORKS = {"lenet5": "LeNet5", "resnet18": "ResNet18"}
"""By their names in conf/model, those of benchmarks/template.py."""
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package has it."""


def seconds_of(words: Sequence[str], folder: Path, *, fails: bool = False) -> float:
    """Of a Python process that is run in `folder` to its end, from its start.

    Raises:
        RuntimeError: it ended otherwise than it should.
    """
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, env=_environment())
    seconds = time.perf_counter() - began
    if done.returncode != (2 if fails else 0):
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return seconds


def answers(rounds: int, folder: Path) -> list[Result]:
    """Seconds that each command takes beyond the import of Hydra."""

    def arm(words: Sequence[str], *, fails: bool = False) -> Arm:
        return lambda: seconds_of(words, folder, fails=fails)

    arms = {"import hydra": arm(("-c", "import hydra"))}
    arms |= {name: arm(words, fails="typo" in name) for name, words in ANSWERS.items()}
    turns = take_turns("until a command has answered", arms, rounds, unit="s", digits=2)
    return [
        Result(
            "until it has answered",
            name,
            "import hydra",
            turns.differences(name),
            turns.null_differences(),
            Goal(MOST_BEYOND_HYDRA_S, at_least=False),
            unit="s beyond",
            busy_cores=turns.busy_cores,
        )
        for name in ANSWERS
    ]


def unpack_fashion_mnist(folder: Path) -> None:
    """Where the template's torchvision looks for it."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in FASHION_MNIST.glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))


def first_step(
    model: str, rounds: int, folder: Path, convoy: Sequence[str] = (), template: Sequence[str] = ()
) -> Result:
    """Convoy's time until the first step is done, as a share of the template's.

    Args:
        model: of `NETWORKS`.
        rounds: how many.
        folder: where both run, with what `unpack_fashion_mnist` writes.
        convoy, template: further overrides of each.
    """
    theirs = (*TEMPLATE, f"model.network._target_=benchmarks.template.{NETWORKS[model]}", *template)
    arms: dict[str, Arm] = {
        "template": lambda: seconds_of(theirs, folder),
        "convoy": lambda: seconds_of((*TRAINING, f"model={model}", *convoy), folder),
    }
    turns = take_turns(f"until the first optimizer step is done, {model}", arms, rounds, unit="s", digits=2)
    share = Result(
        f"until the first step, {model}",
        "convoy",
        "template",
        turns.ratios("convoy"),
        turns.null_ratios(),
        Goal(MOST_OF_THE_TEMPLATE, at_least=False),
        unit="of its time",
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
    parser.add_argument("--models", nargs="*", choices=NETWORKS, default=list(NETWORKS), help="of the first step")
    parser.add_argument("--convoy", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of its first step")
    parser.add_argument("--template", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of its first step")
    given = parser.parse_args(words)
    print(machine("torch", "pytorch-lightning", "hydra-core"))
    with tempfile.TemporaryDirectory() as folder:
        results = answers(given.rounds, Path(folder))
        for result in results:
            print(result.line())
        if not FASHION_MNIST.is_dir():
            print(f"the first step is left out: no Fashion-MNIST in {FASHION_MNIST}")
            return results
        unpack_fashion_mnist(Path(folder))
        return results + [
            first_step(model, given.rounds, Path(folder), given.convoy, given.template) for model in given.models
        ]


if __name__ == "__main__":
    main()
