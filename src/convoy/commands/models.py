"""convoy models: networks in conf/model with size, cost and published accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from convoy.commands.declaration.verb import Call, Verb
from convoy.config.faults import Fault
from convoy.report import model_list


@dataclass(frozen=True)
class Models(Verb):
    """List the networks in conf/model with size, cost and published accuracy.

    Parameters and MACs (multiply-accumulates of one forward pass of one image)
    are those for images of the listed size. The values are from the card in each
    option's file in conf/model/.

      convoy models
      convoy models 'resnet*' sort=macs
      convoy models format=csv
    """

    patterns: list[str] = field(default_factory=lambda: ["*"])
    """Names to list, with * and ? (in quotes)."""
    sort: Literal["family", "name", "year", "parameters", "macs", "accuracy"] = "family"
    """Order of the networks."""
    format: Literal["table", "md", "csv", "json"] = "table"
    """Format of the list."""

    words = "patterns"
    overrides = ("model",)

    def faults(self) -> Iterator[Fault]:
        """Yield a fault for each pattern after the first."""
        for word in self.patterns[1:]:
            yield Fault("patterns", "only one is allowed", "write one pattern", word)


ARGUMENTS = Models


def run(given: Models, call: Call) -> int:
    """Print the list of networks."""
    models = model_list.list_models(given.patterns[0], given.sort, call.options)
    if given.format == "table":
        print(model_list.text_table(models, grouped=given.sort == "family"))
    else:
        write = {"md": model_list.markdown, "csv": model_list.csv_text, "json": model_list.json_text}[given.format]
        print(write(models))
    return 0
