"""The flags that stand before or among the overrides, as Hydra names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.trust import TRUST


@dataclass
class Arguments:
    """A command line of a verb that composes a config.

    Attributes:
        overrides: what is not a flag, in order.
        help: whether help is asked for.
        cfg: whether the composed config is asked for instead of a run.
        resolve: with cfg, interpolations resolved.
        package: with cfg, only this part.
        multirun: whether it is a sweep.
        saved: a file with a resolved config that takes the place of the composed one.
        options: where options are looked for.
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
        """The flags that a process of the same config needs too."""
        return ["--config-dir", str(self.options.folder)] if self.options.folder else []


def parse(words: Sequence[str]) -> Arguments:
    """Sort flags from overrides.

    Raises:
        UserError: a flag lacks its value, or names a folder that isn't there. Unknown flags stay among the
            overrides, where composing reports them together with all other faults.
    """
    parsed = Arguments()
    rest = list(words)
    while rest:
        flag, sign, value = rest.pop(0).partition("=")
        if flag in ("-h", "--help"):
            parsed.help = True
        elif flag in ("-m", "--multirun"):
            parsed.multirun = True
        elif flag == "--resolve":
            parsed.resolve = True
        elif flag in ("-c", "--cfg"):
            kind = value if sign else _value(flag, rest)
            if kind != "job":
                raise UserError(Fault(flag, "shows the job's config", "write --cfg job", kind))
            parsed.cfg = True
        elif flag in ("-p", "--package"):
            parsed.package = value if sign else _value(flag, rest)
        elif flag == "--from":
            parsed.saved = Path(value if sign else _value(flag, rest))
        elif flag in ("-cd", "--config-dir"):
            parsed.options = Options(_folder(flag, value if sign else _value(flag, rest)))
            TRUST.add_folder(parsed.options.folder)
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
        raise UserError(Fault(flag, "no such folder", "name one with model/, data/, … like conf/", text))
    return path.absolute()
