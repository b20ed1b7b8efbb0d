"""Arguments declared as a dataclass: types, choices, words and errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from PIL import Image
from tests.conftest import TINY, Run

from convoy.commands.declaration.arguments import parse
from convoy.commands.declaration.verb import AtLeast, Verb, help_text, read
from convoy.config.faults import Fault, UserError


@dataclass(frozen=True)
class Sample(Verb):
    """Do something with images.

    convoy sample run=latest
    """

    run: str
    """Folder of a run."""
    images: list[str] = field(default_factory=list)
    """Files."""
    count: Annotated[int, AtLeast(1)] | None = None
    """Number of images."""
    share: float = 0.5
    """Share of images."""
    format: Literal["table", "json"] = "table"
    """Format of the output."""
    loud: bool = False
    """Print more."""
    output: Path | None = None
    """File to write."""

    words = "images"
    overrides = ("data",)

    def faults(self) -> Iterator[Fault]:
        """Yield a fault if JSON has no output."""
        if self.format == "json" and self.output is None:
            yield Fault("output", "must be set for json", "write output=<file>")


def test_values_have_the_types_of_their_fields() -> None:
    words = ["run=a", "count=3", "share=0.25", "loud=true", "output=x/y", "b.png", "data=mnist", "data.channels=1"]
    given, call = read(Sample, parse(words))
    assert given == Sample("a", ["b.png"], 3, 0.25, "table", loud=True, output=Path("x/y"))
    assert call.overrides == ["data=mnist", "data.channels=1"]
    assert read(Sample, parse(["run=a"]))[0] == Sample("a")
    assert read(Sample, parse(["run=a", "--loud"]))[0] == Sample("a", loud=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run: must be set; write run=<run folder> or run=latest"),
        (["run=a", "coutn=3"], "coutn=3: sample has no such key; did you mean count?"),
        (["run=a", "count="], "count: needs a value; write count=…"),
        (["run=a", "count=0"], "count=0: must be a whole number of at least 1"),
        (["run=a", "count=1.5"], "count=1.5: must be a whole number of at least 1"),
        (["run=a", "share=nan"], "share=nan: must be a number"),
        (["run=a", "format=jsn"], "format=jsn: no such format; did you mean json?"),
        (["run=a", "loud=yes"], "loud=yes: must be true or false"),
        (["run=a", "--format=json"], "--format: is a key, not a flag; write format=json"),
        (["run=a", "--laud"], "--laud: no such flag; did you mean loud?"),
        (["run=a", "model=vgg16"], "model=vgg16: can't be changed by sample"),
        (["run=a", "-m"], "--multirun: is a flag of convoy train"),
        (["run=a", "format=json"], "output: must be set for json; write output=<file>"),
    ],
)
def test_a_mistake_has_one_message(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convoy.commands.declaration.verb.name_of", lambda _: "sample")
    with pytest.raises(UserError) as caught:
        read(Sample, parse(words))
    assert str(caught.value.faults[0]).startswith(message)


def test_help_lists_every_key_with_default_and_note() -> None:
    text = help_text(Sample)
    for line in ("  run\n      Folder of a run.", "  share = 0.5\n", "  loud = false\n", "  output = null\n"):
        assert line in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_python_m_convoy_is_the_console_script() -> None:
    done = subprocess.run([sys.executable, "-m", "convoy", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("convoy ")


def test_predict_accepts_files_folders_and_patterns(convoy: Callable[..., Run]) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=2").code == 0
    Path("photos/more").mkdir(parents=True)
    for path in ("photos/a.png", "photos/b.jpg", "photos/more/c.png"):
        Image.new("L", (8, 8), 99).save(path)
    Path("photos/notes.txt").write_text("no image")

    def named(*words: str) -> list[str]:
        done = convoy("predict", "run=run", *words, "top=1", folder=None)
        assert done.code == 0, done.err
        return [line.split()[0] for line in done.out.splitlines()[1:]]

    assert named("photos") == ["photos/a.png", "photos/b.jpg", "photos/more/c.png"]
    assert named("photos/*.png", "photos/b.jpg") == ["photos/a.png", "photos/b.jpg"]
    Path("photos").rename("images")  # the name of the key
    assert named("images") == ["images/a.png", "images/b.jpg", "images/more/c.png"]
    refused = convoy("predict", "run=run", "checkpoint=net.onnx", "images", folder=None)
    assert "run=run: can't be combined with the exported file net.onnx; omit run" in refused.err
    refused = convoy("predict", "run=run", "nowhere/*.png", folder=None)
    assert refused.code == 2
    assert "images=nowhere/*.png: has no image" in refused.err


def test_a_ledger_is_written_to_a_file_and_of_a_run(convoy: Callable[..., Run]) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=2").code == 0
    done = convoy("ledger", "run=run", "format=csv", "output=ledger.csv", folder=None)
    assert (done.code, done.out) == (0, "ledger.csv\n")
    ours, theirs = (Path(name).read_text().splitlines() for name in ("ledger.csv", "run/ledger.csv"))
    assert ours == theirs
