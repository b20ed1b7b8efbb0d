"""Wall times in Slurm's format."""

from __future__ import annotations

import re

_FORMS = (
    re.compile(r"(?P<hours>\d+):(?P<minutes>\d{1,2}):(?P<seconds>\d{1,2})"),
    re.compile(r"(?P<days>\d+)-(?P<hours>\d{1,2})(:(?P<minutes>\d{1,2})(:(?P<seconds>\d{1,2}))?)?"),
)


def seconds_of(text: str) -> int | None:
    """Return the seconds of HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS, or None for any other text and for zero.

    sbatch's other formats are refused because they are easily mistaken: a bare number means minutes, but an unquoted
    4:00:00 in YAML becomes the number 14400; MM:SS looks like hours and minutes.
    """
    match = next((match for form in _FORMS if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    days, hours, minutes, seconds = (
        int(match.groupdict().get(part) or 0) for part in ("days", "hours", "minutes", "seconds")
    )
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds or None


def shown(seconds: float) -> str:
    """Format seconds as HH:MM:SS, or as D-HH:MM:SS from one day on."""
    days, rest = divmod(round(seconds), 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock
