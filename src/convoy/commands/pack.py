"""convoy pack: an image folder as shards, or whether shards are as they were written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convoy.commands import arguments
from convoy.commands.arguments import Arguments
from convoy.config.compose import OverrideError, compose, to_config
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.schema import Config
from convoy.data.check import FOLDER_SOURCE, check_data
from convoy.data.shards.index import FORMATS, Index, Shard

_KEYS = ("output", "size", "format", "shard_mib", "verify")
_DEFAULTS = {"size": "256", "format": "jpeg", "shard_mib": "256"}
_MOST_MIB = 4000  # offsets in a shard are 32 bits

_HELP = """\
usage: convoy pack data=image_folder data.root=<folder> output=<folder>
                   [size=256] [format=jpeg] [shard_mib=256] [seed=1]
       convoy pack verify=<folder or s3://...>

  convoy pack data=image_folder data.root=photos output=photos256
  convoy pack data=imagenet data.root=/data/imagenet output=raw format=raw
  convoy pack verify=photos256

  data       an option of image folders; data.root, data.val_fraction,
             data.on_bad_image and data.num_workers count, as in training
  output     the folder that is written; one that was left incomplete is
             gone on with
  size       of the shorter side, in pixels; larger images are resized, none
             is enlarged (but for raw)
  format     jpeg: tar files for WebDataset and Convoy; raw: pixels of the
             centre, size x size, for fast local disks
  shard_mib  the most MiB of a file
  seed       of the order in which images are packed
  verify     a packed folder or address: reads all of it and names damaged
             files

convoy train data=shards data.root=photos256 trains with it. docs/shards.md
tells more."""


def run(words: Sequence[str]) -> int:
    """Pack or verify what the words name."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    values, overrides = split_words(parsed.overrides)
    if "verify" in values:
        from convoy.data.shards.verify import verify

        print(f"{_told(verify(values['verify']))}, all as they were written")
        return 0
    config = _config(overrides, parsed)
    return _pack(values, config)


def split_words(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The verb's own words by their keys, checked, and the config's.

    Raises:
        UserError: with every fault of the verb's own.
    """
    faults, given, overrides = [], {}, []
    for text in words:
        key, sign, value = text.partition("=")
        if key == "data" or key.startswith("data.") or key == "seed":
            overrides.append(text)
        elif key in _KEYS and sign and value:
            given[key] = value
        elif key in _KEYS:
            faults.append(Fault(key, "needs a value", f"write {key}=…"))
        else:
            known = (*_KEYS, "data", "data.root", "seed")
            near = did_you_mean(key, known, f"it has {', '.join(_KEYS)}, data, data.… and seed")
            faults.append(Fault(key, "pack has no such key", near, value if sign else None))
    if "verify" in given and (len(given) > 1 or overrides):
        faults.append(Fault("verify", "stands alone", "convoy pack verify=…", given["verify"]))
    if "verify" not in given and not faults:
        faults += _faults(given, overrides)
    if faults:
        raise UserError(*faults)
    return given if "verify" in given else {**_DEFAULTS, **given}, overrides


def _faults(given: dict[str, str], overrides: Sequence[str]) -> list[Fault]:
    faults = []
    values = {**_DEFAULTS, **given}
    if not any(text.startswith("data=") for text in overrides):
        faults.append(Fault("data", "must be set", "write data=image_folder data.root=<folder>"))
    if "output" not in given:
        faults.append(Fault("output", "must be set", "write output=<folder>"))
    if not (values["size"].isdecimal() and int(values["size"])):
        faults.append(Fault("size", "must be a number of pixels, at least 1", "256 is usual", values["size"]))
    if values["format"] not in FORMATS:
        near = did_you_mean(values["format"], FORMATS, f"choose from {', '.join(FORMATS)}")
        faults.append(Fault("format", "no such format", near, values["format"]))
    try:
        is_right = 0 < float(values["shard_mib"]) <= _MOST_MIB
    except ValueError:
        is_right = False
    if not is_right:
        rule = f"must be a number of MiB, above 0 and at most {_MOST_MIB}"
        faults.append(Fault("shard_mib", rule, "256 is usual", values["shard_mib"]))
    return faults


def _config(overrides: Sequence[str], parsed: Arguments) -> Config:
    faults: list[Fault] = []
    try:
        composed = compose(overrides, parsed.options)
    except OverrideError as error:
        faults, composed = list(error.faults), error.config
    config = to_config(composed)
    if any(fault.key == "data" for fault in faults):
        raise UserError(*faults)
    if config.data.source != FOLDER_SOURCE:
        remedy = "choose data=image_folder or another option of image folders"
        faults.append(Fault("data", "only image folders can be packed", remedy, config.data.name))
    else:
        faults += [fault for fault in check_data(config.data) if fault.key not in {known.key for known in faults}]
    if faults:
        raise UserError(*faults)
    return config


def _pack(values: dict[str, str], config: Config) -> int:
    from convoy.data.data_module import num_decoding_threads
    from convoy.data.datasets import file_splits
    from convoy.data.shards.packing import Packing, pack

    found = file_splits(config.data)
    packing = Packing(
        classes=found.targets.names,
        splits=found.splits,
        output=Path(values["output"]).expanduser(),
        format=values["format"],
        size=int(values["size"]),
        shard_bytes=int(float(values["shard_mib"]) * 2**20),
        seed=config.seed,
        skip=config.data.on_bad_image == "skip",
        num_threads=num_decoding_threads(config.data.num_workers, 1),
    )

    def tell(what: str, shard: Shard) -> None:
        print(f"{what:<7} {shard.file}  {shard.num_samples:,} images, {shard.num_bytes / 2**20:,.1f} MiB", flush=True)

    index = pack(packing, tell)
    for note in found.notes:
        print(note)
    for path, reason in index.skipped.items():
        print(f"left out {path}: {reason}")
    print(f"{_told(index)} in {values['output']}")
    print(f"to train with it: convoy train data=shards data.root={values['output']}")
    return 0


def _told(index: Index) -> str:
    shards = [shard for split in index.splits.values() for shard in split.shards]
    counts = ", ".join(f"{split.num_samples:,} {name}" for name, split in index.splits.items())
    size = sum(shard.num_bytes for shard in shards) / 2**30
    return f"{counts} images of {len(index.classes)} classes in {len(shards)} shards, {size:,.2f} GiB"
