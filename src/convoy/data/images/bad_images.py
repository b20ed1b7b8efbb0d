"""Images that can't be decoded. This module imports no decoder."""

from __future__ import annotations

from dataclasses import dataclass, field

from convoy.config.faults import Fault, UserError


class BadImageError(Exception):
    """Error for an image file that can't be decoded.

    Attributes:
        path: path of the file.
        reason: message of the decoder.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass
class BadImages:
    """Images that can't be decoded.

    Attributes:
        skip: whether they are skipped; otherwise the first one stops the run.
        key: setting that names the images, for the error.
        reasons: message of the decoder for each image found so far, by path.
    """

    skip: bool
    key: str = "data.root"
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, error: BadImageError) -> None:
        """Record an image.

        Raises:
            UserError: if images must not be skipped.
        """
        if not self.skip:
            rule = f"{error.path} can't be decoded ({error.reason})"
            raise UserError(Fault(self.key, rule, "repair or remove it, or set data.on_bad_image=skip")) from error
        self.reasons[error.path] = error.reason
