"""Space of chains in the layer notation."""

from __future__ import annotations

from convoy.models.notation.grammar import parse_layers
from convoy.search.architecture.grammar_space import GrammarSpace


class ChainSpace(GrammarSpace):
    """Space of the chains of layers that a grammar derives."""

    option = "convolutional"
    key = "model.layers"
    block = "chain"

    def check(self, text: str) -> None:
        """Raise a UserError if a text is no layer."""
        parse_layers([text, "FC-1"], num_classes=2)
