"""Arguments of a verb, declared as a dataclass: parsing, help, choices and errors follow from its fields.

The type of a field determines its values: text, `int`, `float`, `bool`, `Path`, a list, a `Literal` of choices, or
`Annotated[int, AtLeast(1)]` for a minimum. A `bool` may be written as a flag: `--watch` is `watch=true`. The docstring
of the class is the help of the verb, the docstring below a field the help of its key. A field without a default must be
set. The class variables of `Verb` describe the other words that a verb accepts.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from convoy.commands.declaration.arguments import Arguments
from convoy.config.faults import Fault, UserError, closest, did_you_mean
from convoy.config.options import Options
from convoy.config.run_overrides import fixed_fault
from convoy.config.schema import Config

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class AtLeast:
    """Smallest value of a number."""

    value: float


class Verb:
    """Base class of a verb's arguments.

    Attributes:
        overrides: groups with overrides that the verb accepts besides its keys; None for those of `convoy train`.
        words: field for words without `=`, such as the images of `predict`.
        flags: flags of `convoy train` that the verb also accepts.
        instead_of_multirun: remedy if -m is given and not in `flags`.
        key_of_words: key that is suggested for a word without `=`.
        folder_keys: keys that name folders.
        checks_config: whether faults of the overrides are reported together with those of the verb's keys.
    """

    overrides: ClassVar[tuple[str, ...] | None] = ()
    words: ClassVar[str | None] = None
    flags: ClassVar[tuple[str, ...]] = ()
    instead_of_multirun: ClassVar[str] = "omit -m"
    key_of_words: ClassVar[str | None] = None
    folder_keys: ClassVar[tuple[str, ...]] = ("output_root",)
    checks_config: ClassVar[bool] = False


@dataclass(frozen=True)
class Call:
    """Context of a verb's call, besides its keys.

    Attributes:
        overrides: overrides of the config.
        options: folders of the options.
        multirun: whether -m was given.
        config_flags: flags that another process of the same config needs.
    """

    overrides: list[str]
    options: Options
    multirun: bool = False
    config_flags: tuple[str, ...] = ()


@dataclass
class Sorted:
    """Words of a command line by kind.

    Attributes:
        own: values of the verb's keys.
        words: words without a key.
        overrides: overrides of the config.
        faults: faults of the words.
    """

    own: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read(kind: type[Any], parsed: Arguments) -> tuple[Any, Call]:
    """Return an instance of a verb's dataclass and the context of the call.

    Args:
        kind: dataclass derived from `Verb`.
        parsed: command line without its flags.

    Raises:
        UserError: if words have faults; all are reported.
    """
    found = _sorted(kind, parsed)
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {kind.words: found.words} if kind.words and found.words else {}
    for key, text in found.own.items():
        try:
            value = _value(key, text, hints[key])
            values[key] = [*found.words, *value] if key == kind.words else value
        except UserError as error:
            found.faults += error.faults
    found.faults += _path_faults(kind, found.own)
    for one in fields(kind):
        is_missing = one.default is MISSING and one.default_factory is MISSING and one.name not in values
        if is_missing and not any(fault.key == one.name for fault in found.faults):
            found.faults.append(Fault(one.name, "must be set", _EXAMPLES.get(one.name, f"write {one.name}=…")))
    if not found.faults:
        given = kind(**values)
        found.faults += getattr(given, "faults", list)()
    if found.faults:
        if kind.checks_config:
            found.faults += _config_faults(found.overrides, parsed.options)
        raise UserError(*dict.fromkeys(found.faults))
    return given, Call(found.overrides, parsed.options, parsed.multirun, tuple(parsed.as_flags))


_EXAMPLES = {"run": "write run=<run folder> or run=latest", "output": "write output=<folder>"}


def name_of(kind: type[Any]) -> str:
    """Return the verb of a dataclass, and its action: its module's name."""
    return kind.__module__.rsplit(".", 1)[-1].replace("_", " ")


def help_text(kind: type[Any]) -> str:
    """Return the verb's help: usage, description, and each key with its default and note."""
    verb, lines = name_of(kind), []
    required = [f"{one.name}=…" for one in _required(kind) if one.name != kind.words]
    usage = [f"usage: convoy {verb}", *required, "[key=value ...]"]
    if kind.words:
        usage.append(f"[{kind.words} ...]")
    lines += [" ".join(usage), "", inspect.cleandoc(kind.__doc__ or ""), "", "keys:"]
    notes = field_notes(kind)
    for one in fields(kind):
        default = "" if one in _required(kind) else f" = {_shown(one)}"
        lines.append(f"  {one.name}{default}")
        lines += wrapped("      ", notes.get(one.name, "").split(), between=" ")
    if kind.overrides is None:
        lines += ["", "Other words are overrides, as in convoy train."]
    elif kind.overrides:
        lines += ["", f"Overrides of the config: {', '.join(kind.overrides)}."]
    return "\n".join(lines)


def field_notes(kind: type[Any]) -> dict[str, str]:
    """Return the docstring below each field of a dataclass and of its base classes."""
    notes: dict[str, str] = {}
    for one in (base for base in reversed(kind.__mro__) if is_dataclass(base)):
        body = ast.parse(inspect.cleandoc(inspect.getsource(one))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, after in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                is_note = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                notes[statement.target.id] = " ".join(str(after.value.value).split()) if is_note else ""  # type: ignore[union-attr]
    return notes


def wrapped(
    lead: str, words: Sequence[str], between: str = ", ", width: int = 79, hanging: str | None = None
) -> list[str]:
    """Return words after a lead, in lines of at most `width` columns.

    Args:
        lead: start of the first line.
        words: words to wrap.
        between: separator.
        width: maximum number of columns.
        hanging: start of the other lines; None for spaces of the width of `lead`.
    """
    lines, line = [], lead
    indent = " " * len(lead) if hanging is None else hanging
    for index, word in enumerate(words):
        piece = word + (between.rstrip() if index < len(words) - 1 else "")
        if len(line) + len(piece) > width and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += piece + " "
    return [*lines, line.rstrip()] if line.strip() else lines


def _path_faults(kind: type[Any], own: dict[str, str]) -> Iterator[Fault]:
    """Yield a fault for each file in the place of a folder, below which nothing can be written."""
    for key in {"output": None, **dict.fromkeys(kind.folder_keys)}:
        path = Path(own.get(key, ""))
        file = next((one for one in path.parents if one.is_file()), None)
        if key in kind.folder_keys and path.is_file():
            yield Fault(key, "is not a folder", "name a new folder", own[key])
        elif file is not None:
            yield Fault(key, f"{file} is a file, not a folder", "name a path in a folder", own[key])


def _sorted(kind: type[Any], parsed: Arguments) -> Sorted:
    found = Sorted(faults=list(_flag_faults(kind, parsed)))
    keys = [one.name for one in fields(kind)]
    switches = [f"--{name}" for name in keys if kind.__dataclass_fields__[name].type in ("bool", bool)]
    for text in parsed.overrides:
        key, sign, value = text.partition("=")
        if text in switches:
            found.own[text.removeprefix("--")] = "true"
        elif key in keys and value:
            found.own[key] = value
        elif key in keys and (sign or not kind.words or not Path(text).exists()):
            found.faults.append(Fault(key, "needs a value", f"write {key}=…"))
        elif text.startswith("-"):
            found.faults.append(_flag_fault(key.lstrip("-"), value, keys))
        elif kind.words and (not sign or "/" in key or Path(text).exists()):
            found.words.append(text)
        elif kind.overrides is None and (near := _own_key(key, keys)):
            found.faults.append(Fault(key, f"{name_of(kind)} has no such key", f"did you mean {near}?", value))
        elif kind.overrides is None or key.split(".")[0] in kind.overrides:
            found.overrides.append(text)
        else:
            found.faults.append(_key_fault(kind, key, value if sign else None, keys))
    return found


def _own_key(key: str, keys: Sequence[str]) -> str | None:
    """Return the key of the verb that a word misspells, if it is no key of the config."""
    is_known = key.split(".")[0] in {one.name for one in fields(Config)}
    return None if is_known else closest(key, keys, cutoff=0.8)


def _key_fault(kind: type[Any], key: str, value: str | None, keys: Sequence[str]) -> Fault:
    verb = name_of(kind)
    if kind.overrides and (fixed := fixed_fault(key, value, verb)) is not None:
        return fixed
    more = f", and overrides of {', '.join(kind.overrides)}" if kind.overrides else ""
    near = did_you_mean(key, keys, f"it has {', '.join(keys)}{more}")
    if value is None and kind.key_of_words and ("/" in key or not near.startswith("did you mean")):
        near = f"did you mean {kind.key_of_words}={key}?"
    return Fault(key, f"{verb} has no such key", near, value)


def _flag_fault(name: str, value: str, keys: Sequence[str]) -> Fault:
    key = name.replace("-", "_")
    if key in keys:
        return Fault(f"--{name}", "is a key, not a flag", f"write {key}={value or '…'}")
    return Fault(f"--{name}", "no such flag", did_you_mean(key, keys, f"keys: {', '.join(keys)}"))


def _flag_faults(kind: type[Any], parsed: Arguments) -> Iterator[Fault]:
    given = {
        "--multirun": (parsed.multirun, kind.instead_of_multirun),
        "--cfg": (parsed.cfg, "convoy train --cfg job shows the config"),
        "--from": (parsed.saved is not None, "omit --from"),
    }
    for flag, (is_given, remedy) in given.items():
        if is_given and flag not in kind.flags:
            yield Fault(flag, f"is a flag of convoy train, not of {name_of(kind)}", remedy)


def _config_faults(overrides: Sequence[str], options: Options) -> list[Fault]:
    """Return the faults of the overrides, to report them together with those of the verb's keys."""
    from convoy.training import preflight

    try:
        preflight.read(overrides, options, to_run=False)
    except UserError as error:
        return list(error.faults)
    return []


def _value(key: str, text: str, hint: Any) -> Any:
    """Return a text as the type of a field."""
    least = None
    if get_origin(hint) is Annotated:
        hint, *limits = get_args(hint)
        least = next((limit.value for limit in limits if isinstance(limit, AtLeast)), None)
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [one for one in get_args(hint) if one is not type(None)]
        hint = next((one for one in kinds if get_origin(one) is list and text.startswith("[")), kinds[0])
        return _value(key, text, Annotated[hint, AtLeast(least)] if least is not None else hint)
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if text not in choices:
            listed = f"one of {', '.join(choices)}"
            raise UserError(Fault(key, f"no such {key}", did_you_mean(text, choices, listed), text))
        return text
    if get_origin(hint) is list:
        (item,) = get_args(hint)
        return [_value(key, one.strip(), item) for one in text.strip("[]").split(",") if one.strip()]
    if hint is bool:
        if text not in ("true", "false"):
            raise UserError(Fault(key, "must be true or false", "", text))
        return text == "true"
    if hint in (int, float):
        return _number(key, text, hint, least)
    return hint(text) if hint is Path else text


def _number(key: str, text: str, kind: type[int] | type[float], least: float | None) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or value != value or (least is not None and value < least):
        what = "a whole number" if kind is int else "a number"
        if least is not None:
            what += f" of at least {least:g}"
        raise UserError(Fault(key, f"must be {what}", "", text))
    return value


def _required(kind: type[Any]) -> list[Any]:
    return [one for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]


def _shown(one: Any) -> str:
    value = one.default if one.default is not MISSING else one.default_factory()
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
