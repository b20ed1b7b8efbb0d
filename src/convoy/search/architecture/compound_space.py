"""Space of compound scaling: factors of depth, width and resolution of residual stages (Tan & Le 2019, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.models.notation.stage_notation import Stage, parse_stages
from convoy.search.architecture.decisions import Decision

_DEFAULTS = {"phi": 1, "step": 0.05, "product": 2.0, "tolerance": 0.1, "stem_filters": 32, "head": 0}
_WHERE = "architecture.compound"
_EXAMPLE = "write compound: {stages: [INVERTED3-16, …], image_size: 32}"


class CompoundSpace:
    """Space with one decision: alpha, beta and gamma of 1 or more with alpha beta^2 gamma^2 near `product`.

    Depth is multiplied by alpha^phi and rounded up, filters by beta^phi and rounded to multiples of 8, and the image
    size by gamma^phi. MACs then grow by about product^phi.

    Args:
        settings: `stages` and `image_size` of the network that is scaled, and optionally `stem_filters` and `head` of
            it, `phi`, and the `step`, `product` and `tolerance` of the grid.

    Raises:
        UserError: a setting is wrong.
    """

    option = "regnet_y_400mf"

    def __init__(self, settings: Any) -> None:
        faults = _faults(settings)
        if faults:
            raise UserError(*faults)
        self._given: dict[str, Any] = {**_DEFAULTS, **settings}
        self._stages = parse_stages(settings["stages"])
        self._factors = _grid(self._given["step"], self._given["product"], self._given["tolerance"])
        if not self._factors:
            rule = "no factors of the grid have this product"
            raise UserError(Fault(f"{_WHERE}.tolerance", rule, "enlarge it, or choose a smaller step"))
        names = tuple("alpha {:g} beta {:g} gamma {:g}".format(*factors) for factors in self._factors)
        self.decisions: tuple[Decision, ...] = (Decision("factors", names),)

    def decode(self, values: Sequence[int]) -> Mapping[str, Any]:
        """Return stages, filters and image size."""
        given = self._given
        depth, width, resolution = (factor ** given["phi"] for factor in self._factors[values[0]])
        return {
            "model.stages": [_scaled(stage, depth, width).text() for stage in self._stages],
            "model.stem_filters": _rounded(given["stem_filters"] * width),
            "model.head": _rounded(given["head"] * width) if given["head"] else 0,
            "data.image_size": round(given["image_size"] * resolution),
        }

    def used(self, values: Sequence[int]) -> frozenset[int]:
        """Return the decision."""
        return frozenset({0})

    def text(self, values: Sequence[int]) -> str:
        """Return the factors."""
        return str(self.decisions[0].choices[values[0]])


def _grid(step: float, product: float, tolerance: float) -> list[tuple[float, float, float]]:
    """Return factors of 1 or more in multiples of a step whose product is near another."""
    count = math.floor((product + tolerance - 1) / step + 1e-9) + 1
    values = [1 + step * index for index in range(count)]
    return [
        (alpha, beta, gamma)
        for alpha in values
        for beta in values
        for gamma in values
        if abs(alpha * beta**2 * gamma**2 - product) <= tolerance + 1e-9
    ]


def _scaled(stage: Stage, depth: float, width: float) -> Stage:
    return replace(stage, blocks=math.ceil(stage.blocks * depth), filters=_rounded(stage.filters * width))


def _rounded(filters: float) -> int:
    """Return the nearest multiple of 8, at least 8, that is not more than a tenth smaller: Tan & Le's code."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters else nearest


def _faults(settings: Any) -> list[Fault]:
    if not isinstance(settings, Mapping) or not {"stages", "image_size"} <= set(settings):
        return [Fault(_WHERE, "needs stages and image_size", _EXAMPLE)]
    known = ("stages", "image_size", *_DEFAULTS)
    faults = []
    for key, value in settings.items():
        where = f"{_WHERE}.{key}"
        if key not in known:
            near = did_you_mean(str(key), known, f"choose from {', '.join(known)}")
            faults.append(Fault(where, "no such setting", near))
        elif key in ("image_size", "stem_filters", "head"):
            if type(value) is not int or value < (key != "head"):
                faults.append(Fault(where, "must be a positive integer", "", str(value)))
        elif key != "stages" and (type(value) not in (int, float) or value <= 0):
            faults.append(Fault(where, "must be a positive number", "", str(value)))
    return faults
