"""A ledger in words: numbers with their units, what was counted, and where most of it lies."""

from __future__ import annotations

import re
from collections import Counter

from convoy.ledger.rows import Ledger, Row


def memory(count: int) -> str:
    """Bytes in KiB, MiB or GiB: 12.3 MiB."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= size:
            return f"{count / size:.{1 if count >= 100 * size else 2}f} {unit}"
    return f"{count} B"


def short(count: int) -> str:
    """A count in thousands, millions or thousand millions: 86.7 M."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if abs(count) >= size:
            return f"{count / size:.{1 if count >= 100 * size else 2}f} {unit}"
    return str(count)


def shortened(text: str, room: int) -> str:
    """The end of a module's name, which tells more than its beginning."""
    return text if len(text) <= room else f"…{text[len(text) - room + 1 :]}"


def headline(ledger: Ledger) -> str:
    """What the ledger is of."""
    shape = "x".join(map(str, ledger.input_shape))
    return f"{ledger.model}: images {shape}, precision {ledger.precision}"


def where(ledger: Ledger) -> list[str]:
    """In which layers most of the memory and most of the parameters are, a sentence each."""
    sentences = []
    for column, what, noun in (("saved_bytes", "memory", "is"), ("params", "parameters", "are")):
        total = ledger.total(column)
        if not total:
            continue
        rows = [row for row in ledger.rows if row.storage != "view" and row.layer not in ("INPUT", "UNUSED")]
        by_kind = Counter[str]()
        for row in rows:
            by_kind[kind(row)] += getattr(row, column)
        ((most, amount),) = by_kind.most_common(1)
        index = _halfway(rows, column)
        place = "early" if index < len(rows) / 2 else "late"
        sentences.append(
            f"Most {what} {noun} in {place} {most}: {most} has {amount / total:.0%}, and half of all is reached at"
            f" layer {index + 1} of {len(rows)}, {described(rows[index])}."
        )
    return sentences


def kind(row: Row) -> str:
    """The word of a layer's name: CONV of CONV3-64."""
    match = re.match(r"L2POOL|[A-Z_]+(?:\d+D)?", row.layer)
    return match[0] if match else row.layer


def described(row: Row) -> str:
    """A layer with the name of its module."""
    return f"{row.layer} ({row.module})" if row.module else row.layer


def _halfway(rows: list[Row], column: str) -> int:
    """The first row with which half of a column's sum is reached."""
    half, passed = sum(getattr(row, column) for row in rows) / 2, 0
    for index, row in enumerate(rows):
        passed += getattr(row, column)
        if passed >= half:
            return index
    return len(rows) - 1


def summary(ledger: Ledger) -> list[tuple[str, str]]:
    """The totals, each with its heading."""
    state, total = ledger.state, ledger.total
    held = state.param_bytes + state.gradient_bytes + (state.optimizer_bytes or 0)
    optimizer = "not known without data" if state.optimizer_bytes is None else memory(state.optimizer_bytes)
    batch = ledger.micro_batch_size
    fixed = total("saved_fixed_bytes") + total("weight_copy_bytes")
    kept = batch * total("saved_bytes") + fixed
    copies = total("weight_copy_bytes")
    return [
        ("parameters", f"{total('params'):,}; {total('params_without_bias'):,} without biases"),
        (
            "they hold",
            f"parameters {memory(state.param_bytes)}, gradients {memory(state.gradient_bytes)}, "
            f"{ledger.optimizer or 'no optimizer'} {optimizer}, buffers {memory(state.buffer_bytes)}",
        ),
        (
            "an image",
            f"layers write {memory(total('written_bytes'))}; autograd keeps {memory(total('saved_bytes'))}"
            f" ({memory(total('saved_index_bytes'))} of it indices)",
        ),
        (
            "",
            f"{short(total('macs'))} MACs forward, {short(total('training_macs'))} forward and backward"
            " (1 MAC = 2 FLOPs)",
        ),
        (
            "micro batch",
            f"of {batch}: {memory(kept)} kept"
            + (f" ({memory(copies)} of it low-precision weights)" if copies else "")
            + f", {memory(kept + held)} with parameters, gradients and optimizer",
        ),
    ]


def convention(ledger: Ledger) -> list[str]:
    """What is counted and what isn't."""
    sentences = [
        "Bytes and counts are per image, of a forward pass in training mode.",
        "Memory is what a layer writes; a layer in place and a view write nothing of their own.",
        "Kept is what autograd holds for the backward pass: each storage once, by the layer that wrote it, "
        "without parameters and buffers.",
        "A parameter is counted where it is used first.",
        "Not counted: the loss, temporaries, the allocator's rounding, workspaces of cuDNN and cuBLAS, CUDA's context.",
    ]
    if ledger.precision != "32":
        sentences.append(f"{ledger.precision}: autocast's copies of weights are a column of their own.")
    if ledger.measured:
        sentences.append(f"Measured times and bytes are of a whole micro batch, {ledger.measured}.")
    return sentences
