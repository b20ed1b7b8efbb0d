"""Networks of a study's trials: their overrides, and their costs where these follow from the decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convoy.data.check import counted_sizes
from convoy.models.chain_costs import chain_costs
from convoy.models.shapes import read_chain
from convoy.search.architecture.chain_space import ChainSpace
from convoy.search.architecture.decisions import ArchitectureSpace, Values

if TYPE_CHECKING:
    from convoy.config.schema import Config

TEXT = "architecture"
"""User attribute of a trial: its network in one line."""


def values_of(space: ArchitectureSpace, chosen: Mapping[str, Any]) -> Values:
    """Return the decisions among the chosen parameters of a trial."""
    return tuple(one.choices.index(chosen[one.name]) for one in space.decisions)


def config_keys(space: ArchitectureSpace | None, chosen: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the keys of the config that a trial sets: its other parameters, and those of its network.

    Args:
        space: of the networks; None if there is none.
        chosen: parameters of the trial, decisions included.
    """
    if space is None:
        return list(chosen.items())
    decided = {one.name for one in space.decisions}
    others = [(key, value) for key, value in chosen.items() if key not in decided]
    return [*others, *space.decode(values_of(space, chosen)).items()]


@dataclass(frozen=True)
class ChainSizes:
    """Images, classes and defaults from which the costs of a chain follow.

    Attributes:
        sizes: num_classes, in_channels and image_size.
        defaults: `activation`, `batch_norm` and `pooling` of the network.
    """

    sizes: Mapping[str, Any]
    defaults: Mapping[str, Any]

    @classmethod
    def of(cls, config: Config) -> ChainSizes | None:
        """Return the sizes of a config; None if its number of classes follows from the data."""
        sizes = counted_sizes(config.data)
        if sizes["num_classes"] is None:
            return None
        model: Mapping[str, Any] = config.model
        defaults = {key: model[key] for key in ("activation", "batch_norm", "pooling") if key in model}
        return cls(sizes, defaults)

    def costs(self, layers: Sequence[str]) -> dict[str, int]:
        """Return the parameters of a chain and its MACs per image.

        Raises:
            UserError: a layer does not fit its input.
        """
        return chain_costs(read_chain(list(layers), **self.sizes, **self.defaults))


def exact_costs(
    space: ArchitectureSpace | None, sizes: ChainSizes | None, chosen: Mapping[str, Any]
) -> dict[str, int] | None:
    """Return the costs of a trial's network if they follow from its decisions; None if only the ledger knows them."""
    if not isinstance(space, ChainSpace) or sizes is None:
        return None
    if any(key.startswith(("data", "model")) for key in chosen):
        return None
    return sizes.costs(space.texts(values_of(space, chosen)))
