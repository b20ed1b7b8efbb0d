"""convoy completion: completion of verbs, keys and options for bash, zsh and fish.

For a response without a noticeable delay, neither torch nor Hydra is imported: option names are file names, and keys
are read from the source of the schema and of the verbs.
"""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from convoy.commands.main import ACTIONS, VERBS
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import CONF

_PACKAGE = Path(__file__).resolve().parents[1]
_LIST_GROUPS = ("logger", "metric", "callback")

SCRIPTS = {
    "bash": """\
_convoy() {
    local line="${COMP_LINE:0:COMP_POINT}" word start
    word="${line##* }"
    start="${word%"${word##*=}"}"
    mapfile -t COMPREPLY < <(convoy completion words "$line" 2>/dev/null)
    COMPREPLY=("${COMPREPLY[@]#"$start"}")
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _convoy convoy
""",
    "zsh": """\
_convoy() {
    local -a found
    found=(${(f)"$(convoy completion words "${BUFFER[1,CURSOR]}" 2>/dev/null)"})
    compadd -S '' -- $found
}
compdef _convoy convoy
""",
    "fish": "complete -c convoy -f -a '(convoy completion words (commandline -cp) 2>/dev/null)'\n",
}

_HELP = """\
usage: convoy completion bash|zsh|fish

Print a script that completes verbs, keys and options. To use it:

  bash   source <(convoy completion bash)
  zsh    source <(convoy completion zsh)
  fish   convoy completion fish | source"""


def run(words: Sequence[str]) -> int:
    """Print the script of a shell, or the completions of a command line."""
    if not words or words[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    if words[0] == "words" and len(words) == 2:
        print("\n".join(complete(words[1])))
        return 0
    if words[0] not in SCRIPTS:
        near = did_you_mean(words[0], SCRIPTS, f"choose from {', '.join(SCRIPTS)}")
        raise UserError(Fault("shell", "no completion for this shell", near, words[0]))
    print(SCRIPTS[words[0]], end="")
    return 0


def complete(line: str) -> list[str]:
    """Return the words that can complete a command line, which begins with `convoy`.

    Args:
        line: text of the command line up to the cursor.
    """
    try:
        words = shlex.split(line)
    except ValueError:  # an open quote
        return []
    if line.endswith(" ") or not words:
        words.append("")
    if len(words) < 3:
        return sorted(verb for verb in VERBS if verb.startswith(words[-1]))
    if words[1] not in VERBS:
        return []
    verb, word = words[1], words[-1]
    actions = ACTIONS.get(verb, ())
    if words[2] in actions and len(words) > 3:
        verb, actions = f"{verb}_{words[2]}", ()
    key, sign, value = word.partition("=")
    keys, composes = _verb_keys(verb)
    if not sign:
        found = {f"{name}=" for name in keys} | (set(actions) if len(words) == 3 else set())
        found |= {f"{name}=" for name in (*_groups(), *_schema_keys())} if composes else set()
        return sorted(name for name in found if name.startswith(word))
    choices = keys.get(key) or (_options(key, words) if (composes or key in keys) and key in _groups() else [])
    done, comma, last = value.rpartition(",")
    if key in _LIST_GROUPS and value.startswith("["):
        done, comma, last = (value, "", "") if not comma and value == "[" else (done or "[", comma, last.lstrip("["))
    return [f"{key}={done}{comma}{name}" for name in choices if name.startswith(last)]


def _groups() -> list[str]:
    return sorted(path.name for path in CONF.iterdir() if path.is_dir())


def _options(group: str, words: Sequence[str]) -> list[str]:
    """Return the options of a group in conf/ and in the folder of `--config-dir`."""
    folders = [CONF]
    for before, word in zip(words, [*words[1:], ""], strict=True):
        if before in ("-cd", "--config-dir"):
            folders.append(Path(word))
        elif before.startswith("--config-dir="):
            folders.append(Path(before.partition("=")[2]))
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def _verb_keys(verb: str) -> tuple[dict[str, list[str]], bool]:
    """Return a verb's keys with their choices, and whether it accepts overrides of a config."""
    path = _PACKAGE / "commands" / f"{verb}.py"
    if not path.is_file():
        return {}, False
    source = path.read_text(encoding="utf-8")
    if "ARGUMENTS = " not in source:
        return {}, True
    tree = ast.parse(source)
    of_runs = {node.name: node for node in _classes(_PACKAGE / "commands" / "declaration" / "run_verbs.py")}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.bases]
    for node in classes:
        classes += [of_runs[ast.unparse(base)] for base in node.bases if ast.unparse(base) in of_runs]
    keys: dict[str, list[str]] = {}
    for name, annotation in itertools.chain.from_iterable(map(_fields_of, classes)):
        if annotation.startswith("Split"):
            keys[name] = ["train", "val", "test"]
        else:
            keys[name] = re.findall(r"'([^']*)'", annotation) if "Literal" in annotation else []
            keys[name] = ["true", "false"] if annotation == "bool" else keys[name]
    return keys, any("overrides = " in ast.unparse(node) for node in classes)


def _classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]


def _fields_of(node: ast.ClassDef) -> list[tuple[str, str]]:
    """Return names and annotations of the fields of a class."""
    return [
        (statement.target.id, ast.unparse(statement.annotation))
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    ]


def _schema_keys() -> Iterator[str]:
    """Yield the keys of the typed part of a config, such as `trainer.max_steps`."""
    files = sorted((_PACKAGE / "config").glob("*schema.py"))
    classes = {node.name: node for file in files for node in _classes(file)}

    def keys(class_name: str, prefix: str) -> Iterator[str]:
        for name, annotation in _fields_of(classes[class_name]):
            nested = annotation.removesuffix(" | None")
            if nested in classes:
                yield from keys(nested, f"{prefix}{name}.")
            elif not annotation.startswith("dict"):
                yield f"{prefix}{name}"

    return keys("Config", "")
