"""Tables of `convoy data` for the terminal, at most 80 columns wide for names of usual length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convoy.config.data_schema import DataConfig
from convoy.config.faults import printable
from convoy.data.inspection.data_notes import notes_on
from convoy.data.inspection.duplicates import count_duplicates
from convoy.data.inspection.inspect_data import Inspection
from convoy.data.inspection.target_counts import count_targets, value_ranges
from convoy.data.targets import IMAGE, VALUES

MOST_CLASSES = 20
"""Number of classes up to which all are listed."""
_ENDS = 5
"""Number of the largest and of the smallest classes that are listed otherwise."""
MOST_FILES = 10
"""Number of files that a list has on the terminal."""
_MODES = {"L": "gray", "P": "palette", "1": "black and white", "LA": "gray with alpha", "F": "floating-point gray"}


def rendered(found: Inspection, data: DataConfig, notes: Sequence[str], *, all_classes: bool) -> RenderableType:
    """Return the report.

    Args:
        found: facts about the data set.
        data: the data config.
        notes: notes of the data set.
        all_classes: whether all classes are listed, however many there are.
    """
    parts: list[RenderableType] = [Text(_headline(found, data), style="bold"), Text()]
    parts += [_values(found) if found.targets.kind == VALUES else _counts(found, all_classes), Text()]
    parts += [_pixels(found, data), Text(), *_looks(found)]
    parts += _duplicates(found)
    parts += _unreadable(found)
    for note in (*notes, *notes_on(found, data)):
        parts.append(Text(printable(f"note: {note}"), style="yellow"))
    return Group(*parts)


def _headline(found: Inspection, data: DataConfig) -> str:
    total = sum(facts.num_images for facts in found.splits.values())
    read = sum(facts.num_read for facts in found.splits.values())
    sample = "" if read == total else f"; {read:,} of them, a random sample, were read (limit=0 reads all)"
    return f"{data.name}: {found.targets.describe()}, {total:,} images{sample}"


def _grid(*headings: str) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, heading in enumerate(headings):
        grid.add_column(heading, justify="right" if index else "left", overflow="fold")
    return grid


def _counts(found: Inspection, all_classes: bool) -> Table:
    """Return the number of images per class or label and split; only their sum where targets are images."""
    names, splits = found.targets.names, found.splits
    grid = _grid(found.targets.noun, *splits)
    grid.add_row("all", *(f"{facts.num_images:,}" for facts in splits.values()), style="bold")
    if found.targets.kind == IMAGE:
        return grid
    counts = [count_targets(found.targets, facts.targets) if len(facts.targets) else None for facts in splits.values()]
    train = counts[0] or [0] * len(names)
    shown = list(range(len(names)))
    if len(names) > MOST_CLASSES and not all_classes:
        order = sorted(shown, key=lambda index: -train[index])
        shown = [*order[:_ENDS], -1, *order[-_ENDS:]]
    for index in shown:
        if index < 0:
            grid.add_row(f"… {len(names) - 2 * _ENDS:,} more (all_classes=true)", style="dim")
            continue
        cells = ("–" if split is None else f"{split[index]:,}" for split in counts)
        grid.add_row(Text(printable(names[index])), *cells)
    return grid


def _values(found: Inspection) -> Table:
    """Return the distribution of each value."""
    grid = _grid(found.targets.noun, "split", "images", "least", "mean", "most", "deviation")
    for name, facts in found.splits.items():
        ranges = value_ranges(facts.targets) if len(facts.targets) else []
        for value, one in zip(found.targets.names, ranges, strict=False):
            numbers = (f"{number:.4g}" for number in (one.least, one.mean, one.most, one.deviation))
            grid.add_row(Text(printable(value)), name, f"{facts.num_images:,}", *numbers)
    return grid


def _pixels(found: Inspection, data: DataConfig) -> Table:
    """Return mean and deviation of the training pixels beside those of the config."""
    grid = _grid("training pixels", "mean", "data.mean", "deviation", "data.std")
    measured = found.mean_and_std
    named = {1: ("gray",), 3: ("red", "green", "blue")}
    channels = named.get(data.channels) or tuple(f"channel {number}" for number in range(1, data.channels + 1))
    for index, channel in enumerate(channels):
        cells = ("–", "–") if measured is None else tuple(f"{values[index]:.4f}" for values in measured)
        mean, std = (values[index if len(values) > 1 else 0] for values in (data.mean, data.std))
        grid.add_row(channel, cells[0], f"{mean:.4f}", cells[1], f"{std:.4f}")
    return grid


def _looks(found: Inspection) -> Iterator[Text]:
    """Yield the sizes and modes of the images."""
    if not found.sizes:
        return
    (width, height), count = found.sizes.most_common(1)[0]
    total = found.sizes.total()
    if count == total:
        yield Text(f"size   {width}x{height}, all images")
    else:
        least = min(found.sizes, key=lambda size: size[0] * size[1])
        most = max(found.sizes, key=lambda size: size[0] * size[1])
        middle = "x".join(str(_median(found.sizes, side)) for side in (0, 1))
        yield Text(f"size   {least[0]}x{least[1]} to {most[0]}x{most[1]}, median {middle}")
        yield Text(f"       most frequent {width}x{height}, {count / total:.0%} of the images")
    yield Text("mode   " + ", ".join(f"{mode_name(mode)} {n:,}" for mode, n in found.modes.most_common()))
    yield Text()


def _median(sizes: Counter[tuple[int, int]], side: int) -> int:
    seen, half = 0, sizes.total() / 2
    for size in sorted(sizes, key=lambda size: size[side]):
        seen += sizes[size]
        if seen >= half:
            return size[side]
    raise ValueError("there are no images")


def mode_name(mode: str) -> str:
    """Return a mode of Pillow in words."""
    return "16-bit gray" if mode.startswith("I") else _MODES.get(mode, mode)


def _duplicates(found: Inspection) -> Iterator[RenderableType]:
    duplicates = found.duplicates
    if not duplicates.equal and not duplicates.near:
        yield Text("no duplicates\n")
        return
    splits, targets = [split for split, _ in found.images], found.targets_seen()
    grid = _grid("duplicates", "equal pixels", "look nearly equal")
    counts = [count_duplicates(groups, splits, targets) for groups in (duplicates.equal, duplicates.near)]
    for first, second in counts[0].across:
        numbers = [count.across[first, second] for count in counts]
        style = "bold" if any(numbers) else ""
        grid.add_row(f"{second} images that are also in {first}", *(f"{number:,}" for number in numbers), style=style)
    for name in counts[0].within:
        grid.add_row(f"repeated within {name}", *(f"{count.within[name]:,}" for count in counts))
    grid.add_row("of them with different targets", *(f"{count.contradictory:,}" for count in counts))
    yield grid
    yield Text()
    for title, sign, groups in (("equal", "=", duplicates.equal), ("nearly equal", "~", duplicates.near)):
        pairs = [(group[0], other) for group in groups for other in group[1:]]
        # Those across splits first, which make a test worthless.
        pairs.sort(key=lambda pair: found.images[pair[0]][0] == found.images[pair[1]][0])
        lines = [f"{_place(found, first)}\n    {sign} {_place(found, second)}" for first, second in pairs[:MOST_FILES]]
        yield from _list(title, lines, len(pairs))


def _place(found: Inspection, image: int) -> str:
    return printable(f"{found.images[image][0]}: {found.name(image)}")


def _unreadable(found: Inspection) -> Iterator[Text]:
    bad = [(name, reason) for facts in found.splits.values() for name, reason in facts.bad.items()]
    yield from _list("unreadable", [printable(f"{name}: {reason}") for name, reason in bad[:MOST_FILES]], len(bad))


def _list(title: str, lines: Sequence[str], count: int) -> Iterator[Text]:
    if not count:
        return
    yield Text(title, style="bold")
    for line in lines:
        yield Text(f"  {line}", overflow="fold")
    if count > len(lines):
        yield Text(f"  and {count - len(lines):,} more (format=json lists all)", style="dim")
    yield Text()
