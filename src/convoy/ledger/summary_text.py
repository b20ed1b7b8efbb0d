"""Text of a ledger: formatted numbers, totals, and the layers with most memory and parameters."""

from __future__ import annotations

import re
from collections import Counter

from convoy.ledger.rows import LedgerRows, Row


def memory(count: int) -> str:
    """Format bytes in KiB, MiB or GiB: 12.3 MiB."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= size:
            return f"{count / size:.{1 if count >= 100 * size else 2}f} {unit}"
    return f"{count} B"


def short(count: int) -> str:
    """Format a count with K, M, G or T: 86.7 M."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if abs(count) >= size:
            return f"{count / size:.{1 if count >= 100 * size else 2}f} {unit}"
    return str(count)


def shortened(text: str, room: int) -> str:
    """Return the last `room` characters of a module's name, which identify it better than the first."""
    return text if len(text) <= room else f"…{text[len(text) - room + 1 :]}"


def headline(ledger: LedgerRows) -> str:
    """Return the title of a ledger."""
    shape = "x".join(map(str, ledger.input_shape))
    return f"{ledger.model}: images {shape}, precision {ledger.precision}"


def summary_sentences(ledger: LedgerRows) -> list[str]:
    """Return one sentence each about the layers with most memory and with most parameters."""
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
            f"Most {what} {noun} in {place} {most}: {most} has {amount / total:.0%}, and half of the total is reached"
            f" at layer {index + 1} of {len(rows)}, {described(rows[index])}."
        )
    return sentences


def kind(row: Row) -> str:
    """Return the kind of a layer from its name: CONV of CONV3-64."""
    match = re.match(r"L2POOL|[A-Z_]+(?:\d+D)?", row.layer)
    return match[0] if match else row.layer


def described(row: Row) -> str:
    """Return a layer's name and its module's name."""
    return f"{row.layer} ({row.module})" if row.module else row.layer


def _halfway(rows: list[Row], column: str) -> int:
    """Return the index of the first row at which the cumulative sum of a column reaches half of the total."""
    half, passed = sum(getattr(row, column) for row in rows) / 2, 0
    for index, row in enumerate(rows):
        passed += getattr(row, column)
        if passed >= half:
            return index
    return len(rows) - 1


def summary(ledger: LedgerRows) -> list[tuple[str, str]]:
    """Return the totals as (heading, text)."""
    state, total = ledger.state, ledger.total
    held = state.param_bytes + state.gradient_bytes + (state.optimizer_bytes or 0)
    optimizer = "unknown (it depends on data)" if state.optimizer_bytes is None else memory(state.optimizer_bytes)
    batch = ledger.micro_batch_size
    fixed = total("saved_fixed_bytes") + total("weight_copy_bytes")
    kept = batch * total("saved_bytes") + fixed
    copies = total("weight_copy_bytes")
    return [
        ("parameters", f"{total('params'):,}; {total('params_without_bias'):,} without biases"),
        (
            "state",
            f"parameters {memory(state.param_bytes)}, gradients {memory(state.gradient_bytes)}, "
            f"{ledger.optimizer or 'no optimizer'} {optimizer}, buffers {memory(state.buffer_bytes)}",
        ),
        (
            "per image",
            f"outputs {memory(total('written_bytes'))}, saved for backward {memory(total('saved_bytes'))}"
            f" (indices: {memory(total('saved_index_bytes'))})",
        ),
        (
            "",
            f"{short(total('macs'))} MACs forward, {short(total('training_macs'))} forward and backward"
            " (1 MAC = 2 FLOPs)",
        ),
        (
            "micro batch",
            f"{batch} image{'s' if batch != 1 else ''}: {memory(kept)} saved"
            + (f" (low-precision weights: {memory(copies)})" if copies else "")
            + f", {memory(kept + held)} with parameters, gradients and optimizer state",
        ),
    ]


def convention(ledger: LedgerRows) -> list[str]:
    """Return sentences that state what is counted."""
    sentences = [
        "Bytes and counts are per image, for a forward pass in training mode.",
        "Memory: new memory of a layer's output; 0 for in-place layers and views.",
        "Saved: storages that autograd saves for the backward pass, without parameters and buffers; each counts once, "
        "for the layer that wrote it.",
        "A parameter is counted in the row that uses it first.",
        "Not counted: loss, temporaries, rounding of the allocator, workspaces of cuDNN and cuBLAS, CUDA context.",
    ]
    if ledger.precision != "32":
        sentences.append(f"{ledger.precision}: autocast's copies of weights are in a separate column.")
    if ledger.measured:
        sentences.append(f"Measured times and bytes are for a whole micro batch, {ledger.measured}.")
    return sentences
