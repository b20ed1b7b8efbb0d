"""Wall times as Slurm writes them."""

from __future__ import annotations

import re

_FORMS = (
    re.compile(r"(?P<hours>\d+):(?P<minutes>\d{1,2}):(?P<seconds>\d{1,2})"),
    re.compile(r"(?P<days>\d+)-(?P<hours>\d{1,2})(:(?P<minutes>\d{1,2})(:(?P<seconds>\d{1,2}))?)?"),
)


def seconds_of(text: str) -> int | None:
    """Seconds of HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS; None where the text is none of them, or no time at all.

    sbatch's other forms are left out: a bare number, which is minutes, since an unquoted 4:00:00 in YAML becomes
    the number 14400; and MM:SS, which looks like hours and minutes.
    """
    match = next((match for form in _FORMS if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    days, hours, minutes, seconds = (
        int(match.groupdict().get(part) or 0) for part in ("days", "hours", "minutes", "seconds")
    )
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds or None


def shown(seconds: float) -> str:
    """HH:MM:SS, with days before it from a day on."""
    days, rest = divmod(round(seconds), 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock
