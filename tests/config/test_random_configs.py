"""Random command lines and option files, valid and invalid: each is accepted, or refused in one message.

`make faults` draws 10,000 command lines and 2,000 files; `make test` draws a few. The seed is printed and can be set
with CONVOY_SEED.
"""

from __future__ import annotations

import io
import os
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from convoy.commands.main import main
from convoy.config.compose import compose
from convoy.config.faults import UserError
from convoy.config.hydra_errors import known_keys
from convoy.config.options import Options
from convoy.config.schema import GROUPS
from convoy.training import preflight

SEED = int(os.environ.get("CONVOY_SEED", random.SystemRandom().randrange(10**9)))

KEYS = sorted({*known_keys(compose([])), "logger.tensorboard.folder", "cluster.account", "callback.mine._target_"})

MISTYPED = st.tuples(st.sampled_from([*KEYS, *GROUPS, "no"]), st.sampled_from(["s", ".0", ".x", ".such.key"])).map(
    "".join
)

NUMBERS = st.one_of(
    st.integers(-3, 300).map(str),
    st.floats(-2, 2).map(repr),
    st.sampled_from(["nan", "inf", "-inf", "1e20", "-1", "0", "99999", "2147483648", "1e-30", "007", "0x10"]),
)
WORDS = st.one_of(
    st.sampled_from(["null", "true", "false", "auto", "", "[]", "{}", "[1,2]", "{a:1}", "???", "val/loss", "../x"]),
    st.sampled_from(["${oc.env:HOME}", "${nowhere}", "${model.name}", '${oc.decode:"1"}', "${a:b}", "${", "'", "a,b"]),
    st.text(st.sampled_from("ab/.-= []{}()'\"\\$:;!#&*?é,~%@^`|<>0"), max_size=8),
)
VALUES = st.one_of(NUMBERS, WORDS)


def options() -> st.SearchStrategy[str]:
    pairs = [(group, option) for group in GROUPS for option in Options().of(group)]
    return st.sampled_from(pairs).map("=".join)


KEY_VALUES = st.tuples(
    st.sampled_from(["", "", "", "", "+", "++", "~"]),
    st.one_of(st.sampled_from([*KEYS, *GROUPS]), st.sampled_from(KEYS), MISTYPED),
    VALUES,
).map(lambda drawn: f"{drawn[0]}{drawn[1]}={drawn[2]}")
LINES = st.lists(st.one_of(KEY_VALUES, KEY_VALUES, options(), WORDS), min_size=1, max_size=4)


def drawn(count: int) -> Callable[[Any], Any]:
    """Return a decorator that draws so many examples with the seed."""
    chosen = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: seed(SEED)(chosen(test))


def accepted(words: list[str], options_folder: Path | None = None) -> bool:
    """Return whether a config composed from words is accepted; a refusal names a key and a rule."""
    try:
        preflight.read(words, Options(options_folder))
    except UserError as error:
        faults = error.faults
    else:
        return True
    assert faults
    for fault in faults:
        assert fault.key, words
        assert fault.rule, words
        assert "\n" not in fault.rule, fault
    return False


def files() -> set[Path]:
    return set(Path().rglob("*"))


def check_line(words: list[str]) -> bool:
    """Compose a command line, and run some of the refused ones as commands. Return whether it was accepted."""
    if any(word.split("=")[0].lstrip("+~") in ("output_root", "folder", "resume") for word in words):
        words = [*words, "trainer.max_steps=0"]  # refused, wherever it would write
    if accepted(words):
        return True
    if zlib.crc32(repr(words).encode()) % 8:  # a whole command for one of eight
        return False
    before, out, err = files(), io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["train", *words])
    assert code in (0, 2), (words, err.getvalue())  # 0: --help
    assert "Traceback" not in err.getvalue(), words
    assert files() == before, words
    return False


@pytest.fixture
def counts() -> Iterator[dict[bool, int]]:
    found = {True: 0, False: 0}
    yield found
    print(f"\nseed {SEED}: {found[True]} accepted, {found[False]} refused, 0 stack traces")
    assert found[True] + found[False] > 0


@pytest.mark.slow
def test_a_few_random_command_lines(counts: dict[bool, int]) -> None:
    @drawn(30)
    @given(words=LINES)
    def one(words: list[str]) -> None:
        counts[check_line(words)] += 1

    one()


@pytest.mark.faults
def test_ten_thousand_random_command_lines(counts: dict[bool, int]) -> None:
    @drawn(10_000)
    @given(words=LINES)
    def one(words: list[str]) -> None:
        counts[check_line(words)] += 1

    one()


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**40), 2**40),
        st.floats(),
        st.sampled_from(["", "a", "???", "${nowhere}", "${oc.env:HOME}", "convoy.models.chain.Chain", "os.system"]),
        st.sampled_from(["CONV3-8", "FC-10", "FC-{num_classes}", "POOL2", "torch.nn.Identity", "adamw", "val/top1"]),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=3),
        st.dictionaries(st.sampled_from(["_target_", "name", "layers", "card", "lr", "a", "1"]), children, max_size=3),
    ),
    max_leaves=6,
)


@st.composite
def option_files(draw: st.DrawFn) -> tuple[str, str]:
    """Return a group and the text of an option file for it: a shipped one with changes, or any other text."""
    group = draw(st.sampled_from([group for group in GROUPS if group != "experiment"]))
    if draw(st.integers(0, 9)) == 0:
        return group, draw(st.text(max_size=40))
    base: dict[Any, Any] = {}
    shipped = draw(st.sampled_from(Options().of(group)))
    path = Options().folders[0] / group / f"{shipped}.yaml"
    base = dict(yaml.safe_load(path.read_text()) or {})
    for _ in range(draw(st.integers(0, 3))):
        key = draw(st.sampled_from([*map(str, base), "nosuchkey", "_target_", "defaults"]))
        if draw(st.booleans()):
            base.pop(key, None)
        else:
            base[key] = draw(PLAIN)
    return group, yaml.safe_dump(base, allow_unicode=True)


def check_file(folder: Path, group: str, text: str) -> bool:
    path = folder / group / "drawn.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    try:
        return accepted([f"{group}=drawn"], folder)
    finally:
        path.unlink()


@pytest.mark.slow
def test_a_few_random_option_files(counts: dict[bool, int], tmp_path: Path) -> None:
    @drawn(25)
    @given(drawn_file=option_files())
    def one(drawn_file: tuple[str, str]) -> None:
        counts[check_file(tmp_path / "mine", *drawn_file)] += 1

    one()


@pytest.mark.faults
def test_two_thousand_random_option_files(counts: dict[bool, int], tmp_path: Path) -> None:
    @drawn(2_000)
    @given(drawn_file=option_files())
    def one(drawn_file: tuple[str, str]) -> None:
        counts[check_file(tmp_path / "mine", *drawn_file)] += 1

    one()
