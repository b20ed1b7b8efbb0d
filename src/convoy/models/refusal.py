"""What a library says when it refuses, as a part of a fault."""


def one_line(error: Exception, longest: int = 300) -> str:
    """The error's message on one line, at most `longest` characters; its type where it has no message."""
    return " ".join(str(error).split())[:longest] or type(error).__name__
