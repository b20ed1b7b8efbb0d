"""Page of a study: the page of its trials, with the history of the search, and its charts as PNG files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from convoy.config.faults import Fault, UserError
from convoy.report.pages.document import Figure, Section
from convoy.report.pages.study_charts import study_charts
from convoy.report.pages.sweep_page import sweep_page
from convoy.report.pages.sweep_records import read_sweep
from convoy.runs.whole_files import encoded, replace_shared
from convoy.search.study_config import read_study

_PNG_WIDTH = 640


def write_study_report(folder: Path, output: Path | None = None) -> list[Path]:
    """Write the page of a study, and its charts as PNG files next to it.

    Args:
        folder: of the study.
        output: page; None: report.html in the folder.

    Returns:
        The files.

    Raises:
        UserError: there is no such study, or no trial has been trained.
        WriteError: a file can't be written.
    """
    from convoy.search.journal import JOURNAL, stored_study

    if not (folder / JOURNAL).is_file():
        raise UserError(
            Fault("study", "is not the folder of a study", "name a folder in outputs/searches", str(folder))
        )
    try:
        sweep = read_sweep(folder / "trials")
    except UserError as error:
        remedy = f"train one: convoy search resume={folder}"
        raise UserError(Fault("study", "has no trained trial", remedy, str(folder))) from error
    figures = study_charts(stored_study(folder), read_study(folder / "study.yaml").objectives, sweep.monitor)
    page = sweep_page(sweep, Section("Search", figures, in_columns=True))
    page = replace(page, title=f"Study {folder.name}")
    path = output or folder / "report.html"
    replace_shared(path, encoded(page.html()))
    return [path, *(_write_png(figure, path) for figure in figures)]


def _write_png(figure: Figure, page: Path) -> Path:
    import vl_convert

    name = re.sub(r"[^a-z0-9]+", "_", figure.title.lower())
    path = page.with_name(f"{page.stem}_{name}.png")
    spec = {**json.loads(figure.chart.json), "width": _PNG_WIDTH, "background": "white", "title": figure.title}
    image = vl_convert.vegalite_to_png(spec, scale=2)
    replace_shared(path, image)
    return path
