"""Calls of the user's data sets and augmentation."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from convoy.config.faults import Fault, UserError
from convoy.data.images.bad_images import BadImageError


@contextmanager
def user_code(key: str, name: str) -> Iterator[None]:
    """Report an exception of the user's code as an error of `key`, with the line that raised it."""
    try:
        yield
    except (UserError, BadImageError, MemoryError):
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        rule = f"{name} raises {type(error).__name__}: {error}"
        raise UserError(Fault(key, rule, f"see {frame.filename}, line {frame.lineno}")) from error
