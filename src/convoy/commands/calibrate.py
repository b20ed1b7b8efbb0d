"""convoy calibrate: measure the GPU of this machine for the planner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convoy.commands.declaration.verb import Call, Verb
from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config
from convoy.planner.calibration import calibration_of, path_of
from convoy.runtime.allocator_settings import use_allocator
from convoy.training import preflight

if TYPE_CHECKING:
    from convoy.planner.gpu_calibration import Gpu


@dataclass(frozen=True)
class Calibrate(Verb):
    """Measure the GPU of this machine for the planner.

    Measures the GPU's memory, the memory of the CUDA context, and the workspace
    of each convolution of the configured training at the micro batch size, half
    and a quarter of it. Stops after a minute. Results are added to
    <output_root>/calibration/<card>.json, which convoy plan, convoy submit and
    trainer.micro_batch_size=auto use. No other process may use the GPU.

      convoy calibrate hardware=a100 model=resnet50 data=imagenet
    """

    overrides = None


ARGUMENTS = Calibrate

_MOST_SECONDS = 60


def run(_: Calibrate, call: Call) -> int:
    """Measure the GPU and write the results."""
    config = preflight.read(call.overrides, call.options, to_run=False)
    if config.hardware.architecture is None:
        rule = "the measurements are stored under the name of a card"
        raise UserError(Fault("hardware", rule, "name the card, such as hardware=a100", config.hardware.name))
    use_allocator(config.hardware)
    # Imported here, since torch takes seconds to import.
    import torch

    if not torch.cuda.is_available():
        rule = "this machine has no GPU that torch can use"
        remedy = "run it on a node that has the card (srun --gres=gpu:1 …)"
        raise UserError(Fault("hardware", rule, remedy, config.hardware.name))
    from convoy.optim.build_optimizer import check_targets
    from convoy.planner.gpu_calibration import CudaGpu

    check_targets(config)
    measure(config, CudaGpu())
    return 0


def measure(config: Config, gpu: Gpu, seconds: float = _MOST_SECONDS) -> None:
    """Measure a GPU, add the result to its calibration file, and print it."""
    from convoy.planner.gpu_calibration import calibrate
    from convoy.planner.memory_plan import Planner
    from convoy.planner.plan_table import gib

    planner = Planner(config)
    convolutions = planner.convolutions(config.hardware)
    micro = planner.micro_batch_size
    batches = sorted({max(1, micro // part) for part in (1, 2, 4)})
    name = config.hardware.name
    found = calibrate(gpu, convolutions, batches, seconds)
    path = path_of(config.output_root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.with_workspaces_of(calibration_of(config.output_root, name)).text(), encoding="utf-8")
    largest = max((size for sizes in found.workspaces.values() for size in sizes.values()), default=0)
    print(f"card        {found.device}, {gib(found.usable_bytes)}")
    print(f"context     {gib(found.context_bytes)}")
    print(f"workspace   {len(found.workspaces)} of {len(convolutions)} convolutions, at most {gib(largest)}")
    print(f"written     {path}")
