"""What an exported file says of itself: all that whoever uses it needs besides its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convoy import __version__
from convoy.config.faults import Fault, UserError
from convoy.data.preparation import Preparation
from convoy.export.batch_norm_folding import Pair
from convoy.models.refusal import one_line

_MARK = "convoy"


@dataclass(frozen=True)
class Facts:
    """Of a trained network.

    Attributes:
        name: of the run.
        classes: names; the logit at an index is that class's.
        preparation: from an image file to the network's input.
        config: the run's resolved config, as plain containers.
        folded: the layers into which batch norms were folded; None where that wasn't asked for.
    """

    name: str
    classes: tuple[str, ...]
    preparation: Preparation
    config: Mapping[str, Any]
    folded: tuple[Pair, ...] | None = None

    @property
    def model(self) -> dict[str, Any]:
        """The model group without weights of others, which the file's own replace."""
        return {name: value for name, value in self.config["model"].items() if name != "pretrained"}

    def as_metadata(self) -> dict[str, str]:
        """Texts by name, most of them JSON: what all formats have room for."""
        return {
            _MARK: __version__,
            "name": self.name,
            "classes": json.dumps(self.classes, ensure_ascii=False),
            "preprocessing": json.dumps(self.preparation.as_data()),
            "config": json.dumps(self.config, ensure_ascii=False),
            "fold_bn": json.dumps(self.folded is not None),
            "folded": json.dumps(self.folded or []),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: str) -> Facts:
        """From what `as_metadata` gave; other names are passed over.

        Raises:
            UserError: `path` was not written by `convoy export`, or is damaged.
        """
        if _MARK not in metadata:
            rule = "was not written by convoy export (it doesn't say how images are prepared, nor its classes)"
            raise UserError(Fault("checkpoint", rule, "write it with convoy export run=…", path))
        try:
            folded = tuple((layer, norm) for layer, norm in json.loads(metadata["folded"]))
            return cls(
                metadata["name"],
                tuple(json.loads(metadata["classes"])),
                Preparation.from_data(json.loads(metadata["preprocessing"])),
                json.loads(metadata["config"]),
                folded if json.loads(metadata["fold_bn"]) else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            rule = f"says of itself what this version of Convoy doesn't understand ({one_line(error)})"
            raise UserError(Fault("checkpoint", rule, "write it again with convoy export", path)) from error
