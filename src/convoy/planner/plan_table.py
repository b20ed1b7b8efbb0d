"""Memory plans as text for the terminal, at least 80 columns wide: one in full, or one line per card."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convoy.config.faults import UserError
from convoy.planner.plan_figures import PlanFigures

_NAMES = {"cudnn_workspace": "cuDNN workspace", "cublas_workspace": "cuBLAS workspace", "ddp_buffers": "DDP buckets"}
_NAMES["context"] = "CUDA context"
HEADS = ("card", "precision", "usable", "needed", "fits", "largest", "global batch")
"""Columns of the table of several cards."""


def rendered(plan: PlanFigures) -> RenderableType:
    """Return one plan: categories, peak with its position, and the result."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column()
    grid.add_column(justify="right")
    for name, size in plan.categories.items():
        grid.add_row(f"  {_NAMES.get(name, name.replace('_', ' '))}", gib(size))
    peaks = Table.grid(padding=(0, 2, 0, 0))
    peaks.add_column(style="bold")
    peaks.add_column(justify="right", style="bold")
    peaks.add_column()
    peaks.add_row("peak allocated", gib(plan.peak.allocated_bytes), f"in {plan.at}")
    if plan.on_cuda:
        peaks.add_row("peak reserved", gib(plan.peak.reserved_bytes), "by PyTorch's caching allocator")
        of = f"of {gib(plan.usable_bytes)}, " if plan.usable_bytes else ""
        peaks.add_row("on the card", gib(plan.device_total_bytes), f"{of}with CUDA's context")
        if not plan.is_certain and plan.context_bytes is not None:
            peaks.add_row("", "", f"not calibrated: {needed(plan)}")
    parts = [Text(_headline(plan), style="bold"), Text(), grid, Text(), peaks, Text(), *_verdict(plan), *_footer(plan)]
    return Group(*parts)


def table(rows: Sequence[tuple[str, PlanFigures | UserError]]) -> RenderableType:
    """Return one line per card: usable memory, interval of needed memory, and the largest micro batch that fits."""
    plans = [plan for _, plan in rows if isinstance(plan, PlanFigures)]
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in HEADS:
        is_text = heading in ("card", "precision", "fits")
        grid.add_column(heading, justify="left" if is_text else "right", no_wrap=True)
    refused = []
    for name, plan in rows:
        grid.add_row(*cells(name, plan))
        if isinstance(plan, UserError):
            refused += [f"{name}: {fault}" for fault in plan.faults]
    parts: list[RenderableType] = []
    if plans:
        first = plans[0]
        ranks = f" over {first.sizes.world_size} ranks" if first.sizes.world_size > 1 else ""
        heading = f"{first.model}: global batch {first.sizes.global_batch_size}{ranks}"
        parts += [Text(f"{heading}, micro batch {first.sizes.micro_batch_size}", style="bold"), Text()]
    parts += [grid, *(Text(line) for line in refused), Text()]
    legend = "In GiB. Largest: largest micro batch that fits. Global batch: micro batch x accumulation that fits."
    return Group(*parts, Text(legend, style="dim"), *_footer(*plans))


def cells(card: str, plan: PlanFigures | UserError) -> list[str | Text]:
    """Return the line of a card."""
    if isinstance(plan, UserError):
        return [card, *["-"] * 3, Text("no", style="red"), "-", "-"]
    return [
        card,
        plan.precision,
        _bare(plan.usable_bytes),
        _interval(plan),
        _yes_or_no(plan.fits),
        "-" if plan.largest_micro_batch is None else str(plan.largest_micro_batch),
        f"{plan.fitting.micro_batch_size} x {plan.fitting.accumulation}" if plan.fitting else "-",
    ]


def named_sizes(plan: PlanFigures) -> list[tuple[str, str]]:
    """Return the categories and peaks of a plan with their sizes."""
    found = [(_NAMES.get(name, name.replace("_", " ")), gib(size)) for name, size in plan.categories.items()]
    found += [("peak allocated", gib(plan.peak.allocated_bytes)), ("peak reserved", gib(plan.peak.reserved_bytes))]
    return found + ([("on the card", needed(plan))] if plan.on_cuda else [])


def gib(size: int | None) -> str:
    """Format bytes in GiB."""
    return "unknown" if size is None else f"{size / 2**30:.2f} GiB"


def needed(plan: PlanFigures) -> str:
    """Return the predicted memory on the card, an interval unless the card is calibrated."""
    return "unknown" if plan.device_total_bytes is None else f"{_interval(plan)} GiB"


def _interval(plan: PlanFigures) -> str:
    if plan.interval_bytes is None or plan.is_certain:
        return _bare(plan.device_total_bytes)
    lower, upper = plan.interval_bytes
    return f"{_bare(lower)} to {_bare(upper)}"


def _bare(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**30:.2f}"


def remedy(plan: PlanFigures) -> str:
    """Return the remedy for a plan that does not fit, as a clause."""
    if plan.fitting is not None:
        sizes = plan.fitting
        steps = f"{sizes.accumulation} accumulation steps keep the global batch of {sizes.global_batch_size}"
        return f"write trainer.micro_batch_size={sizes.micro_batch_size} ({steps})"
    others = ["a card with more memory"]
    if plan.precision == "32":
        others.append("trainer.precision=16-mixed or bf16-mixed")
    others.append("trainer.activation_checkpointing=true")
    return f"not even a micro batch of one image fits: choose {', '.join(others)}, or a smaller data.image_size"


def _headline(plan: PlanFigures) -> str:
    sizes = plan.sizes
    parts = [f"micro batch {sizes.micro_batch_size}"]
    if sizes.accumulation > 1:
        parts.append(f"{sizes.accumulation} accumulation steps")
    if sizes.world_size > 1:
        parts.append(f"{sizes.world_size} ranks")
    batch = f"global batch {sizes.global_batch_size} = {' x '.join(parts)}"
    return f"{plan.model} on {plan.hardware}, {plan.precision}: {batch}"


def _verdict(plan: PlanFigures) -> list[RenderableType]:
    if not plan.on_cuda:
        return []
    if plan.fits is None or plan.usable_bytes is None or plan.interval_bytes is None:
        return [Text("The memory of the card is unknown: choose one with hardware=…, or all with 'hardware=*'.")]
    lower, upper = plan.interval_bytes
    if plan.fits:
        lines = [Text(f"fits, with at least {gib(plan.usable_bytes - upper)} free", style="bold green")]
    else:
        verdict = "does not fit" if plan.is_certain or lower > plan.usable_bytes else "may not fit"
        lines = [Text(f"{verdict}; {remedy(plan)}", style="bold red")]
    if plan.largest_micro_batch:
        kept = ""
        if plan.fitting is not None:
            sizes = plan.fitting
            kept = (
                f"; {sizes.micro_batch_size} x {sizes.accumulation} keeps the global batch of {sizes.global_batch_size}"
            )
        lines.append(Text(f"the largest micro batch that fits is {plan.largest_micro_batch}{kept}"))
    return [*lines]


def _footer(*plans: PlanFigures) -> list[RenderableType]:
    on_cuda = [plan for plan in plans if plan.on_cuda]
    lines = []
    if bases := dict.fromkeys(plan.basis for plan in on_cuda if plan.basis):
        lines += [f"Not calibrated: {basis}." for basis in bases]
        lines.append("cuDNN's workspaces are estimated, NCCL's buffers are not counted (docs/planner.md).")
    if len(plans) == 1 and on_cuda and plans[0].calibrated:
        lines.append(f"Calibrated: {plans[0].calibrated}.")
    return [Text(), *(Text(line, style="dim") for line in lines)] if lines else []


def _yes_or_no(fits: bool | None) -> Text:
    if fits is None:
        return Text("?")
    return Text("yes", style="green") if fits else Text("no", style="red")
