"""Lists of the networks of conf/model from their cards: a table, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from convoy.config.cards import BENCHMARKS, FAMILIES, ModelCard, PublishedAccuracy, read_cards
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import Options
from convoy.ledger.summary_text import short
from convoy.ledger.text_formats import markdown_table

_HEAD = ("option", "year", "parameters", "MACs", "pixels", "top-1", "on")


@dataclass(frozen=True)
class ListedModel:
    """A network with the name of its option.

    Attributes:
        name: of the option.
        card: its card.
    """

    name: str
    card: ModelCard

    @property
    def published(self) -> PublishedAccuracy | None:
        """First published accuracy."""
        return self.card.published[0] if self.card.published else None

    @property
    def family_rank(self) -> tuple[int, str]:
        """Place of the family in `FAMILIES`; other families follow in alphabetical order."""
        family = self.card.family
        return (FAMILIES.index(family), "") if family in FAMILIES else (len(FAMILIES), family)


SORT_KEYS: dict[str, Callable[[ListedModel], Any]] = {
    "family": lambda model: (model.family_rank, model.card.year or 0, model.card.image_size, model.card.parameters),
    "name": lambda model: model.name,
    "year": lambda model: (model.card.year or 0, model.name),
    "parameters": lambda model: model.card.parameters,
    "macs": lambda model: model.card.macs,
    "accuracy": lambda model: model.published.accuracy if model.published else 0.0,
}


def list_models(pattern: str = "*", sort: str = "family", options: Options | None = None) -> list[ListedModel]:
    """Return the networks whose option matches a glob pattern.

    Raises:
        UserError: no network matches, or a card does not match the schema.
    """
    cards = read_cards(ModelCard, options)
    models = [ListedModel(name, card) for name, card in cards.items() if fnmatchcase(name, pattern)]
    if not models:
        near = did_you_mean(pattern.strip("*"), cards, "convoy models lists all")
        raise UserError(Fault("pattern", "matches no network", near, pattern))
    return sorted(models, key=SORT_KEYS[sort])


def by_family(models: Sequence[ListedModel]) -> dict[str, list[ListedModel]]:
    """Return the networks of each family, in the order of the families."""
    groups: dict[str, list[ListedModel]] = {}
    for model in sorted(models, key=lambda model: model.family_rank):
        groups.setdefault(model.card.family, []).append(model)
    return groups


def text_table(models: Sequence[ListedModel], *, grouped: bool) -> str:
    """Return a table for a terminal, with a heading per family if `grouped`."""
    rows = {model.name: _cells(model) for model in models}
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows.values(), strict=True)]

    def line(cells: Sequence[str]) -> str:
        name, *figures, data = cells
        aligned = [f"{cell:>{width}}" for cell, width in zip(figures, widths[1:-1], strict=True)]
        return "  ".join([f"{name:<{widths[0]}}", *aligned, data]).rstrip()

    lines = [line(_HEAD)]
    if not grouped:
        return "\n".join([*lines, *map(line, rows.values())])
    for family, members in by_family(models).items():
        lines += ["", family, *(line(rows[model.name]) for model in members)]
    return "\n".join(lines)


def markdown(models: Sequence[ListedModel]) -> str:
    """Return a section per family: the new idea of each network with its paper, then a table."""
    return "\n\n".join(
        "\n\n".join([f"## {family[0].upper()}{family[1:]}", "\n".join(_ideas(members)), _markdown_table(members)])
        for family, members in by_family(models).items()
    )


def csv_text(models: Sequence[ListedModel]) -> str:
    """Return a CSV table with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _flat(models[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(model) for model in models)
    return text.getvalue().rstrip("\n")


def json_text(models: Sequence[ListedModel]) -> str:
    """Return the cards as a JSON list, each with the name of its option."""
    return json.dumps([{"name": model.name, **asdict(model.card)} for model in models], indent=2, ensure_ascii=False)


def _cells(model: ListedModel) -> tuple[str, ...]:
    card, published = model.card, model.published
    return (
        model.name,
        str(card.year or "–"),
        short(card.parameters),
        short(card.macs),
        str(card.image_size),
        f"{100 * published.accuracy:.2f}%" if published else "–",
        BENCHMARKS[published.data] if published else "–",
    )


def _markdown_table(models: Sequence[ListedModel]) -> str:
    rows = [
        [f"`{name}`", *figures, model.published.source if model.published else "–"]
        for model in models
        for name, *figures in [_cells(model)]
    ]
    return markdown_table([*_HEAD, "source"], rows, left=1)


def _ideas(models: Sequence[ListedModel]) -> Iterator[str]:
    """Yield a list item per idea, with the options that share it."""
    options: dict[tuple[str, str], list[str]] = {}
    for model in models:
        options.setdefault((model.card.idea, _citation(model.card)), []).append(f"`{model.name}`")
    for (idea, citation), names in options.items():
        yield f"- {', '.join(names)}{citation}. {idea}."


def _citation(card: ModelCard) -> str:
    if card.paper is None:
        return ""
    if card.paper.arxiv is None:
        return f" ({card.paper.authors} {card.paper.year}, {card.paper.venue})"
    return f" ([{card.paper.authors} {card.paper.year}](https://arxiv.org/abs/{card.paper.arxiv}))"


def _flat(model: ListedModel) -> Mapping[str, object]:
    card, published = model.card, model.published
    return {
        "name": model.name,
        "family": card.family,
        "year": card.year,
        "parameters": card.parameters,
        "macs": card.macs,
        "in_channels": card.in_channels,
        "image_size": card.image_size,
        "num_classes": card.num_classes,
        "min_image_size": card.min_image_size,
        "published_on": published.data if published else None,
        "top1": published.accuracy if published else None,
        "source": published.source if published else None,
    }
