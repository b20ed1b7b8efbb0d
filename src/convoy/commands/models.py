"""convoy models: the networks of conf/model with size, cost and published accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from convoy.commands import arguments
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.report import model_list

_KEYS = ("sort", "format")
_FORMATS = ("table", "md", "csv", "json")

_HELP = """\
usage: convoy models ['<pattern>'] [sort=family] [format=table]
                     [--config-dir <folder>]

  convoy models
  convoy models 'resnet*' sort=macs
  convoy models format=csv

  <pattern>  names to list, with * and ? (in quotes); default: all
  sort       family, name, year, parameters, macs or accuracy
  format     table, md, csv or json

Parameters and MACs (multiply-accumulates of one forward pass of one image)
hold for images of the size listed. The facts come from the card in each
option's file in conf/model/."""


def run(words: Sequence[str]) -> int:
    """Print the list of networks."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    patterns = [word for word in parsed.overrides if "=" not in word and not word.startswith("-")]
    given, faults = arguments.sort([word for word in parsed.overrides if word not in patterns], _KEYS, "models")
    faults += [Fault("pattern", "only one is allowed", "write one pattern", word) for word in patterns[1:]]
    sort, format_name = given.get("sort", "family"), given.get("format", "table")
    for key, value, choices in (("sort", sort, tuple(model_list.SORT_KEYS)), ("format", format_name, _FORMATS)):
        if value not in choices:
            near = did_you_mean(value, choices, f"choose from {', '.join(choices)}")
            faults.append(Fault(key, "no such choice", near, value))
    if faults:
        raise UserError(*faults)
    models = model_list.list_models(patterns[0] if patterns else "*", sort, parsed.options)
    if format_name == "table":
        print(model_list.text_table(models, grouped=sort == "family"))
    else:
        write = {"md": model_list.markdown, "csv": model_list.csv_text, "json": model_list.json_text}[format_name]
        print(write(models))
    return 0
