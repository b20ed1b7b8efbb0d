"""Devices of a run: trainer.gpus, processes, nodes and precision in the terms of Lightning's Trainer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config
from convoy.runtime.cpu_cores import own_cores


@dataclass(frozen=True)
class Devices:
    """Devices and precision of a run.

    Attributes:
        accelerator: "cuda", "mps" (the GPU of an Apple silicon Mac) or "cpu".
        per_node: GPUs per node, or processes per node on the CPU.
        nodes: Number of nodes.
        precision: Precision in Lightning's terms: "32-true", "bf16-mixed" or "16-mixed".
        name: Display name, such as "2 x NVIDIA A100" or "CPU".
        cpu_threads: Threads per process for CPU operations.
    """

    accelerator: str
    per_node: int
    nodes: int
    precision: str
    name: str
    cpu_threads: int

    @property
    def world_size(self) -> int:
        """Number of ranks on all nodes."""
        return self.per_node * self.nodes


def choose(config: Config, busy_cores: int = 0) -> Devices:
    """Return the devices that the config requests on this machine.

    Args:
        config: Config of the run.
        busy_cores: Cores that other processes keep busy; a run of one process does not use them.

    Raises:
        UserError: If the machine has fewer GPUs than requested, or they lack the precision.
    """
    trainer, hardware = config.trainer, config.hardware
    kind, present = _gpus_present()
    gpus = _gpus(config, present)
    if gpus > present:
        raise UserError(_too_many(gpus, present, trainer.nodes))
    kind = kind if gpus else "cpu"
    if kind == "cuda" and (fault := _missing_kernels()):
        raise UserError(fault)
    per_node = gpus or trainer.processes
    return Devices(
        accelerator=kind,
        per_node=per_node,
        nodes=trainer.nodes,
        precision=_precision(config, kind),
        name=_name(kind, per_node),
        cpu_threads=hardware.cpu_threads or max(1, own_cores(per_node) - (busy_cores if per_node == 1 else 0)),
    )


def _gpus_present() -> tuple[str, int]:
    """Return the kind of this machine's GPUs and their number."""
    if torch.cuda.is_available():
        return "cuda", torch.cuda.device_count()
    return "mps", int(torch.backends.mps.is_available())


def _gpus(config: Config, present: int) -> int:
    trainer, hardware = config.trainer, config.hardware
    if hardware.accelerator == "cpu":
        return 0
    if trainer.gpus != "auto":
        return int(trainer.gpus)
    if hardware.accelerator == "gpu" and not present:
        rule = "this machine has no GPU that torch can use"
        raise UserError(Fault("hardware", rule, "write hardware=auto or hardware=cpu", hardware.name))
    return present


def _too_many(gpus: int, present: int, nodes: int) -> Fault:
    rule = f"this machine has {present or 'no'} GPU{'' if present == 1 else 's'} that torch can use"
    if present:
        return Fault("trainer.gpus", rule, f"write trainer.gpus={present} or trainer.gpus=auto", str(gpus))
    instead = "trainer.gpus=0"
    if gpus > 1 and nodes == 1:
        instead += f", or trainer.gpus=0 trainer.processes={gpus} to run that many processes on the CPU"
    return Fault("trainer.gpus", rule, f"write {instead}", str(gpus))


def _missing_kernels() -> Fault | None:
    """Return a fault if torch has no kernels for the first GPU; torch only warns, then fails in the first kernel."""
    from convoy.cluster.kernels import remedy, runs_on

    major, minor = torch.cuda.get_device_capability(0)
    compiled = torch.cuda.get_arch_list()
    if not compiled or runs_on(10 * major + minor, compiled):
        return None
    architecture, have = f"sm_{major}{minor}", ", ".join(compiled)
    rule = f"{torch.cuda.get_device_name(0)} is {architecture}; torch {torch.__version__} has kernels for {have}"
    return Fault("trainer.gpus", rule, remedy(architecture))


def _precision(config: Config, kind: str) -> str:
    asked = config.trainer.precision
    if asked == "auto":
        if config.hardware.precision is not None:
            asked = config.hardware.precision
        elif kind == "cpu":
            asked = "bf16-mixed" if cpu_has_bf16() else "32"
        elif kind == "mps":
            asked = "32"
        else:
            asked = "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if asked == "bf16-mixed" and kind == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        rule = "macOS before 14 has no bfloat16 on its GPU"
        raise UserError(Fault("trainer.precision", rule, "write trainer.precision=32", asked))
    if asked == "bf16-mixed" and kind == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        rule = f"{torch.cuda.get_device_name(0)} has no bfloat16"
        raise UserError(Fault("trainer.precision", rule, "write trainer.precision=16-mixed or auto", asked))
    if asked == "16-mixed" and kind != "cuda":
        remedy = "write trainer.precision=32 or bf16-mixed"
        raise UserError(Fault("trainer.precision", "float16 needs an NVIDIA GPU", remedy, asked))
    return "32-true" if asked == "32" else asked


def cpu_has_bf16() -> bool:
    """Return True if this CPU has bfloat16 instructions (AVX-512 or AMX); without them it is slower than float32."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name)() for name in names if hasattr(torch.cpu, name))


def _name(kind: str, per_node: int) -> str:
    if kind == "cuda":
        card = torch.cuda.get_device_name(0)
        return card if per_node == 1 else f"{per_node} x {card}"
    if kind == "mps":
        return "Apple GPU"
    return "CPU" if per_node == 1 else f"CPU, {per_node} processes"


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished what was started on it; operations on the CPU are complete when they return."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def configure_torch(devices: Devices, *, tf32: bool) -> None:
    """Set the number of threads for CPU operations, and the precision of float32 operations on GPUs.

    Args:
        devices: Devices of the run. More threads than cores are many times slower.
        tf32: Whether matrix products and convolutions in float32 are computed in TF32 (GPUs from Ampere on; ignored on
            others). torch's default is TF32 for convolutions only.
    """
    torch.set_num_threads(devices.cpu_threads)
    if devices.accelerator == "cuda":
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
