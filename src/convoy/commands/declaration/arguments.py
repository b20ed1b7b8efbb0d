"""Flags before or among the overrides, with Hydra's names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.trust import TRUST

_OF_AGENT = "WANDB_SWEEP_ID"
"""Environment variable of a run that `wandb agent` starts, which writes overrides as --key=value."""


@dataclass
class Arguments:
    """Command line of a verb that composes a config.

    Attributes:
        overrides: words other than flags, in order.
        help: whether to print help.
        cfg: whether to print the composed config instead of starting a run.
        resolve: with cfg, whether to resolve interpolations.
        package: with cfg, part of the config to print; empty for all.
        multirun: whether the command is a sweep.
        saved: file with a resolved config that replaces the composed one.
        options: folders of the options.
    """

    overrides: list[str] = field(default_factory=list)
    help: bool = False
    cfg: bool = False
    resolve: bool = False
    package: str | None = None
    multirun: bool = False
    saved: Path | None = None
    options: Options = field(default_factory=Options)

    @property
    def as_flags(self) -> list[str]:
        """Return the flags that another process of the same config needs."""
        return ["--config-dir", str(self.options.folder)] if self.options.folder else []


_PATHS = ("folder", "output_root", "output", "run", "resume")
"""Keys of paths whose home folder (~) is written out; most shells leave it within a word."""


def parse(words: Sequence[str]) -> Arguments:
    """Separate flags from overrides.

    Unknown flags stay in the overrides, so that the composition reports them together with all other faults.

    Raises:
        UserError: if a flag has no value, or its folder does not exist.
    """
    parsed = Arguments()
    rest = list(words)
    while rest:
        flag, sign, value = rest.pop(0).partition("=")
        if value.startswith("~/") and (flag in _PATHS or flag.startswith("-")):
            value = str(Path(value).expanduser())
        if flag in ("-h", "--help"):
            parsed.help = True
        elif flag in ("-m", "--multirun"):
            parsed.multirun = True
        elif flag == "--resolve":
            parsed.resolve = True
        elif flag in ("-c", "--cfg"):
            kind = value if sign else _value(flag, rest)
            if kind != "job":
                rule = "Convoy manages folders, logs and sweeps itself and has no config of Hydra to show"
                raise UserError(Fault(flag, rule, "write --cfg job, which shows everything that affects a run", kind))
            parsed.cfg = True
        elif flag in ("-p", "--package"):
            parsed.package = value if sign else _value(flag, rest)
        elif flag == "--from":
            parsed.saved = Path(value if sign else _value(flag, rest))
        elif flag in ("-cd", "--config-dir"):
            parsed.options = Options(_folder(flag, value if sign else _value(flag, rest)))
            TRUST.add_folder(parsed.options.folder)
        elif sign and _OF_AGENT in os.environ:
            parsed.overrides.append(flag.removeprefix("--") + sign + value)
        else:
            parsed.overrides.append(flag + sign + value)
    return parsed


def _value(flag: str, rest: list[str]) -> str:
    if not rest:
        raise UserError(Fault(flag, "needs a value", "see convoy train --help"))
    return rest.pop(0)


def _folder(flag: str, text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise UserError(Fault(flag, "no such folder", "give a folder with model/, data/, … like conf/", text))
    return path.absolute()
