"""The project's prose: phrases that its style rules out, and the form of docstrings."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

PENDING: tuple[str, ...] = ()
"""Files and folders that are not checked yet."""

_COUNTED = (
    "GPUs?|CPUs?|cores?|processes|ranks?|nodes?|samples?|images?|batches|steps?|epochs?|rows?|columns?|lines?|files?"
    "|folders?|bytes|numbers?|values?|weights|kernels?|threads?|tasks?|layers?|seconds|minutes|hours|one"
)
_UNIT = (
    "node|rank|layer|step|epoch|batch|image|sample|channel|class|row|line|file|folder|group|run|job|point|card|task"
    "|core|process|second|split|option|verb|model|module"
)

PHRASES = {
    rf"\b(?:{_COUNTED}) an? (?:{_UNIT})\b(?!-)": "per, as in 2 GPUs per node",
    r"\b(?:go|goes|going|went|gone) on\b": "resume or continue",
    r"\b(?:tell|tells|told|telling)\b": "report, print, log or show",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bof (?:its|their|our) own\b": "its, or separate",
    r"\b(?:stand|stands|lie|lies) (?:in|at|on|by|beside|behind|there|where|between)\b": "is, is stored in",
    r"\bmakes? of\b": "the output or the result",
    r"\b[Ww]ho (?:carries|reads|writes|keeps|chose)\b": "the noun, as in: scheduler that runs the job",
    r"\b(?:is|are|be|was) held to\b": "checked against",
    r"\bgone through\b": "run or processed",
    r"\bthe way of an?\b": "the noun, as in: the run's lifecycle",
}
"""Regular expressions, and the words to use instead."""

CLAUSE = re.compile(r"(?:What|Where|Which|Whether|How|Who|Whose|Of|From|By)\b")
"""Beginnings of a docstring that is neither a command nor a noun phrase."""


def _source_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of each comment and string of a Python file."""
    with tokenize.open(path) as file:
        source = file.read()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) or token.type == getattr(tokenize, "FSTRING_MIDDLE", -1):
            yield token.start[0], token.string


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        is_property = any(
            ast.unparse(decorator).endswith("property") for decorator in getattr(node, "decorator_list", [])
        )
        text = ast.get_docstring(node)
        if text and not is_property:
            yield node.body[0].lineno, text


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    if path.suffix == ".py":
        yield from _source_texts(path)
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if path.suffix == ".md":
            yield number, line
        elif "#" in line:
            yield number, line[line.index("#") :]


def _files() -> list[Path]:
    found = [*(ROOT / "src").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml"), *(ROOT / "docs").rglob("*.md")]
    found += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    pending = [ROOT / name for name in PENDING]
    return sorted(
        path for path in found if path.is_file() and not any(path.is_relative_to(folder) for folder in pending)
    )


def _hits(path: Path) -> Iterator[str]:
    place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    for number, text in _texts(path):
        for pattern, remedy in PHRASES.items():
            for found in re.finditer(pattern, text):
                line = number + text.count("\n", 0, found.start())
                yield f'{place}:{line}: "{found[0]}"; write {remedy}'
    if path.suffix == ".py":
        for number, text in _docstrings(path):
            if found := CLAUSE.match(text):
                yield f'{place}:{number}: docstring begins with "{found[0]}"; write a command or a noun phrase'


def test_prose_has_no_phrase_that_the_style_rules_out():
    hits = [hit for path in _files() for hit in _hits(path)]

    assert not hits, "\n" + "\n".join(hits)


def test_a_phrase_is_reported_with_its_file_line_and_remedy(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("# Title\n\nIt takes 2 GPUs a node.\n")

    assert list(_hits(file)) == [f'{file}:3: "GPUs a node"; write per, as in 2 GPUs per node']


def test_a_docstring_that_begins_with_a_clause_is_reported(tmp_path):
    file = tmp_path / "module.py"
    file.write_text('"""Names of layers."""\n\n\ndef name():\n    """What it is called.\n\n    More.\n    """\n')

    assert list(_hits(file)) == [f'{file}:5: docstring begins with "What"; write a command or a noun phrase']


def test_a_phrase_in_a_string_over_several_lines_has_the_phrases_line(tmp_path):
    file = tmp_path / "module.py"
    file.write_text('"""Names of layers.\n\nThe run goes on.\n"""\n')

    assert list(_hits(file)) == [f'{file}:3: "goes on"; write resume or continue']
