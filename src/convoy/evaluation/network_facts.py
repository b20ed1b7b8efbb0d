"""Metadata of a trained network: names of targets, preparation of images, and config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convoy import __version__
from convoy.config.faults import Fault, UserError, one_line
from convoy.data.images.preparation import Preparation
from convoy.data.targets import Targets

_MARK = "convoy"


@dataclass(frozen=True)
class Facts:
    """Metadata of a trained network, stored in its checkpoints and exported files.

    Attributes:
        name: name of the run.
        names: names of the classes, labels or values, in the order of the network's outputs.
        preparation: steps from an image file to the network's input.
        config: the run's resolved config, as plain containers.
        folded: layers into which batch norms were folded; None if folding was not requested.
    """

    name: str
    names: tuple[str, ...]
    preparation: Preparation
    config: Mapping[str, Any]
    folded: tuple[tuple[str, str], ...] | None = None

    @property
    def model(self) -> dict[str, Any]:
        """Model group without pretrained weights, which the file's weights replace."""
        return {name: value for name, value in self.config["model"].items() if name != "pretrained"}

    @property
    def targets(self) -> Targets:
        """Kind and names of the targets."""
        return Targets(str(self.config["task"]["target"]), self.names)

    def as_metadata(self) -> dict[str, str]:
        """Return the metadata as texts by name, which all file formats can store.

        Most of them are JSON, in ASCII: names of folders may not be UTF-8.
        """
        return {
            _MARK: __version__,
            "name": self.name,
            "names": json.dumps(self.names),
            "preprocessing": json.dumps(self.preparation.as_data()),
            "config": json.dumps(self.config),
            "fold_bn": json.dumps(self.folded is not None),
            "folded": json.dumps(self.folded or []),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: str) -> Facts:
        """Read what `as_metadata` returned; other names are ignored.

        Raises:
            UserError: if `path` was not written by `convoy export`, or is damaged.
        """
        if _MARK not in metadata:
            rule = "was not written by convoy export (it has no preparation of images and no classes)"
            raise UserError(Fault("checkpoint", rule, "write it with convoy export run=…", path))
        try:
            folded = tuple((layer, norm) for layer, norm in json.loads(metadata["folded"]))
            return cls(
                metadata["name"],
                tuple(json.loads(metadata["names"])),
                Preparation.from_data(json.loads(metadata["preprocessing"])),
                json.loads(metadata["config"]),
                folded if json.loads(metadata["fold_bn"]) else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            rule = f"has metadata that this version of Convoy can't read ({one_line(error)})"
            raise UserError(Fault("checkpoint", rule, "write it again with convoy export", path)) from error
