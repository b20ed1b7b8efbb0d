"""Training in bfloat16 compared with float32 on a CPU with bfloat16 instructions: a ResNet-18 for 32x32x3 images.

Both arms train like `convoy train`, with float32 weights; with bf16-mixed, convolutions and linear layers compute in
bfloat16. The ceiling is a bare loop in bfloat16 over one fixed batch. A CPU without avx512_bf16 or AMX is slower in
bfloat16, so nothing is measured there.

    python -m benchmarks.precision --steps 4 --batch 64
    python -m benchmarks.precision model=vgg11_bn data=cifar10      other networks and data
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence

from benchmarks.lightning_overhead import images_per_s_convoy, images_per_s_fixed
from benchmarks.networks import built, composed, opened
from benchmarks.results import Result
from benchmarks.rounds import compare, machine, threads
from convoy.runtime.devices import choose, cpu_has_bf16

OVERRIDES = ("model=resnet18", "model.stem=small", "data=digits", "data.channels=3")
"""The time of a step does not depend on the pixels, and these data need no download."""
GOAL = 2.2


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps per measurement, at most one epoch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*", help="Convoy's overrides: model=… data=… optimizer=…")
    given = parser.parse_args(words)
    if not cpu_has_bf16():
        print("bfloat16 against float32: skipped, this CPU has neither avx512_bf16 nor AMX")
        return []
    single, half = (
        composed(OVERRIDES, [*given.overrides, f"trainer.precision={name}"], steps=given.steps, batch=given.batch)
        for name in ("32", "bf16-mixed")
    )
    data = opened(half)
    network = built(half, data)
    steps = min(given.steps, data.steps_per_epoch(1))
    print(machine("torch", "pytorch-lightning"))
    size = f"{half.data.image_size}x{half.data.image_size}x{half.data.channels}"
    with threads(choose(half).cpu_threads):
        return [
            compare(
                f"{half.model['name']}, {size}, {steps} steps of {given.batch}",
                ("bf16-mixed", lambda: images_per_s_convoy(copy.deepcopy(network), half, data, steps)),
                ("float32", lambda: images_per_s_convoy(copy.deepcopy(network), single, data, steps)),
                given.rounds,
                goal=GOAL,
                ceiling=("fixed batch", lambda: images_per_s_fixed(copy.deepcopy(network), half, data, steps)),
                digits=1,
            )
        ]


if __name__ == "__main__":
    main()
