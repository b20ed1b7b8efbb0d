"""Space of residual stages."""

from __future__ import annotations

from convoy.models.notation.stage_notation import parse_stage
from convoy.search.architecture.grammar_space import GrammarSpace


class StageSpace(GrammarSpace):
    """Space of the residual stages that a grammar derives: depth, width, window, groups and squeeze ratio of each."""

    option = "regnet_y_400mf"
    key = "model.stages"
    block = "stages"

    def check(self, text: str) -> None:
        """Raise a UserError if a text is no stage."""
        parse_stage(text, "model.stages")
