"""Networks of a study's trials: their overrides, and their costs where these follow from the decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convoy.config.faults import UserError
from convoy.data.check import counted_sizes
from convoy.models.notation.chain_costs import chain_costs
from convoy.models.notation.shapes import read_chain
from convoy.search.architecture.chain_space import ChainSpace
from convoy.search.architecture.decisions import ArchitectureSpace, Values

if TYPE_CHECKING:
    from convoy.config.schema import Config
    from convoy.search.study_config import StudyConfig

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
        if None in sizes.values():
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


@dataclass(frozen=True)
class ChainFilter:
    """Constraints on parameters and MACs of chains, checked from their decisions alone.

    Attributes:
        space: of the chains.
        sizes: of images and classes.
        constraints: of the study.
    """

    space: ChainSpace
    sizes: ChainSizes
    constraints: Mapping[str, Any]

    @classmethod
    def of(cls, study: StudyConfig, config: Config) -> ChainFilter | None:
        """Return the filter of a study; None if only the ledger knows the costs of its networks.

        Args:
            study: of the trials.
            config: of a trial without its network.
        """
        sizes = ChainSizes.of(config)
        if not isinstance(study.architecture, ChainSpace) or sizes is None:
            return None
        if any(one.key.startswith(("data", "model")) for one in study.space):
            return None
        return cls(study.architecture, sizes, study.constraints)

    def refuses(self, values: Values) -> bool:
        """Return whether a chain violates a constraint or has a layer that does not fit its input."""
        try:
            costs = self.costs(values)
        except UserError:
            return True
        return any(costs[name] > largest for name, largest in self.constraints.items() if name in costs)

    def costs(self, values: Values) -> dict[str, int]:
        """Return the parameters and MACs of a chain.

        Raises:
            UserError: a layer does not fit its input.
        """
        return self.sizes.costs(self.space.texts(values))
