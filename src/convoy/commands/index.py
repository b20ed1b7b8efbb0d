"""convoy index: index tar files in the format of WebDataset that others have written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convoy.commands.declaration.verb import Verb
from convoy.config.faults import Fault, UserError
from convoy.data.shards.storage import S3


@dataclass(frozen=True)
class IndexTars(Verb):
    """Index tar files of WebDataset, so that data=shards reads them.

    Reads each file once, and writes index.json and a table per split beside
    them; the tar files are not changed. Files with val or test in their
    names are these splits, all others are train. Repeat it after a file was
    changed or added. See docs/shards.md.

      convoy index tars=/data/tars
      convoy index tars=/data/tars image=jpg label=json.species
      convoy train data=shards data.root=/data/tars
    """

    tars: str
    """Folder of the .tar files, or s3://bucket/prefix."""
    output: str | None = None
    """Folder of the index; null: that of the files. For s3://…, a local
    folder whose files are then copied to the address."""
    image: str | None = None
    """Extension of the images, for samples that have several."""
    label: str | None = None
    """Extension of the labels, or json.FIELD for a field of a .json; null:
    cls, or else txt."""
    classes: str | None = None
    """File with the name of one class per line, in the order of their
    numbers; null: the distinct labels are the names."""
    val_fraction: float = 0.1
    """Share of train that is held out for val, if no file is named after val."""
    skip: bool = False
    """Whether samples without an image or a label are left out; otherwise
    the first one is an error."""

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of combinations of keys."""
        if not 0 < self.val_fraction < 1:
            yield Fault("val_fraction", "must be between 0 and 1", "0.1 is usual", f"{self.val_fraction:g}")
        if self.output is None and self.tars.startswith(S3):
            yield Fault("output", "must be set for files in a store", "write output=<local folder>")
        if self.classes is not None and not Path(self.classes).expanduser().is_file():
            yield Fault("classes", "is not a file", "give a text file with one name per line", self.classes)


ARGUMENTS = IndexTars


def run(given: IndexTars) -> int:
    """Index the files and print the splits."""
    from convoy.data.shards.indexing import Indexing, index_tars

    output = Path(given.output or given.tars).expanduser()
    index = index_tars(
        Indexing(
            given.tars,
            output,
            None if given.image is None else given.image.lower().removeprefix("."),
            None if given.label is None else given.label.removeprefix("."),
            _names(given.classes),
            given.val_fraction,
            given.skip,
        ),
        lambda file, count: print(f"{file}  {count:,} images", flush=True),
    )
    for name, reason in index.skipped.items():
        print(f"skipped {name}: it {reason}")
    counts = ", ".join(f"{split.num_samples:,} {name}" for name, split in index.splits.items())
    print(f"{counts} images of {len(index.classes)} classes")
    if str(output) != given.tars.rstrip("/") and given.tars.startswith(S3):
        print(f"to train with it: aws s3 cp --recursive {output} {given.tars}, then", end=" ")
        print(f"convoy train data=shards data.root={given.tars}")
    else:
        print(f"to train with it: convoy train data=shards data.root={output}")
    return 0


def _names(file: str | None) -> tuple[str, ...] | None:
    if file is None:
        return None
    names = tuple(line.strip() for line in Path(file).expanduser().read_text(encoding="utf-8-sig").splitlines())
    names = tuple(name for name in names if name)
    if len(set(names)) != len(names) or len(names) < 2:
        rule = "has a name twice" if len(names) >= 2 else "has fewer than two names"
        raise UserError(Fault("classes", rule, "write one name per class and line", file))
    return names
