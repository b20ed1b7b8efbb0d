"""Arguments of verbs, declared as dataclasses."""
