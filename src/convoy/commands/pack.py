"""convoy pack: pack an image folder into shards, or verify the checksums of shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from convoy.commands.declaration.verb import AtLeast, Call, Verb
from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.data.check import check_data
from convoy.data.shards.shard_index import Index, Shard
from convoy.data.source_names import FOLDER_SOURCE
from convoy.data.targets import counted

_MOST_MIB = 4000  # offsets in a shard are 32 bits


@dataclass(frozen=True)
class Pack(Verb):
    """Pack an image folder into shards, or verify shards.

    data is an option for image folders. data.root, data.val_fraction,
    data.on_bad_image and data.num_workers have the same meaning as in training;
    seed determines the order of the images.
    convoy train data=shards data.root=photos256 trains on the result. See
    docs/shards.md.

      convoy pack data=image_folder data.root=photos output=photos256
      convoy pack data=imagenet data.root=/data/imagenet output=raw format=raw
      convoy pack verify=photos256
    """

    output: str | None = None
    """Folder to write, or s3://bucket/prefix; an interrupted packing is
    continued."""
    size: Annotated[int, AtLeast(1)] = 256
    """Shorter side in pixels; larger images are reduced; smaller ones are
    enlarged only with format=raw."""
    format: Literal["jpeg", "raw"] = "jpeg"
    """jpeg: tar files for WebDataset and Convoy; raw: pixels of the centre,
    size x size, for fast local disks."""
    shard_mib: float = 256.0
    """Largest size of a file in MiB."""
    verify: str | None = None
    """Packed folder or address to verify: read all files and list damaged
    ones."""

    overrides = ("data", "seed")

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of combinations of keys."""
        if self.verify is None and self.output is None:
            yield Fault("output", "must be set", "write output=<folder>")
        if self.verify is not None and self.output is not None:
            yield Fault("verify", "can't be combined with output", "convoy pack verify=…", self.verify)
        if not 0 < self.shard_mib <= _MOST_MIB:
            rule = f"must be a number of MiB, above 0 and at most {_MOST_MIB}"
            yield Fault("shard_mib", rule, "256 is usual", f"{self.shard_mib:g}")


ARGUMENTS = Pack


def run(given: Pack, call: Call) -> int:
    """Pack or verify."""
    if given.verify is not None:
        if call.overrides:
            raise UserError(Fault("verify", "can't be combined with data", "convoy pack verify=…", given.verify))
        from convoy.data.shards.verify import verify

        print(f"{_described(verify(given.verify))}, all checksums match")
        return 0
    if not any(text.startswith("data=") for text in call.overrides):
        raise UserError(Fault("data", "must be set", "write data=image_folder data.root=<folder>"))
    return _pack(given, _config(call.overrides, call.options))


def _config(overrides: Sequence[str], options: Options) -> Config:
    from convoy.training import preflight

    return preflight.read_data(overrides, options, _faults)


def _faults(data: DataConfig) -> list[Fault]:
    if data.source != FOLDER_SOURCE:
        remedy = "choose data=image_folder or another option for image folders"
        return [Fault("data", "only image folders can be packed", remedy, data.name)]
    if data.channels not in (1, 3):
        rule = "only gray and RGB images can be packed"
        return [Fault("data.channels", rule, "train on the folder itself, without convoy pack", str(data.channels))]
    return check_data(data)


def _pack(given: Pack, config: Config) -> int:
    from convoy.data.data_module import num_decoding_threads
    from convoy.data.images.pixel_format import PixelFormat
    from convoy.data.opening.file_splits import file_splits
    from convoy.data.shards.packing import Packing, pack

    found = file_splits(config.data)
    packing = Packing(
        classes=found.targets.names,
        splits=found.splits,
        output=Path(str(given.output)).expanduser(),
        format=given.format,
        size=given.size,
        shard_bytes=int(given.shard_mib * 2**20),
        seed=config.seed,
        skip=config.data.on_bad_image == "skip",
        num_threads=num_decoding_threads(config.data.num_workers, 1),
        form=replace(PixelFormat.of(config.data), channels=3),
    )

    def report(what: str, shard: Shard) -> None:
        print(f"{what:<7} {shard.file}  {shard.num_samples:,} images, {shard.num_bytes / 2**20:,.1f} MiB", flush=True)

    index = pack(packing, report)
    for note in found.notes:
        print(note)
    for path, reason in index.skipped.items():
        print(f"skipped {path}: {reason}")
    print(f"{_described(index)} in {given.output}")
    print(f"to train with it: convoy train data=shards data.root={given.output}")
    return 0


def _described(index: Index) -> str:
    # By file, since the val split that `convoy index` has held out shares the files of train.
    shards = {shard.file: shard for split in index.splits.values() for shard in split.shards}.values()
    counts = ", ".join(f"{split.num_samples:,} {name}" for name, split in index.splits.items())
    size = sum(shard.num_bytes for shard in shards) / 2**30
    return f"{counts} images of {len(index.classes)} classes in {counted(len(shards), 'shard')}, {size:,.2f} GiB"
