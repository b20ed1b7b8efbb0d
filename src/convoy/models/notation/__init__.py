"""Layer notation: tokens, grammar and shapes of chains, cells and stages. Imports no torch."""
