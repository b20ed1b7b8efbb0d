"""Check of the folds of cross-validation. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, fault_of
from convoy.data.source_names import FOLDER_SOURCE, LISTED_SOURCES


def fold_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield the faults of `data.folds` and `data.fold`; those of a split column are found with the table."""
    folds, fold = data.folds, data.fold
    if folds is None:
        if fold is not None:
            yield fault_of("data.fold", fold, "requires data.folds", "write data.folds=5 for five folds")
        return
    if data.source not in LISTED_SOURCES:
        rule = "applies only to image folders, tables and data sets of Hugging Face"
        yield fault_of("data.folds", folds, rule, "write data.folds=null data.fold=null")
    if folds < 2:
        yield fault_of("data.folds", folds, "must be at least 2", "5 and 10 are usual")
    elif fold is None:
        every = ",".join(map(str, range(min(folds, 10))))
        rule = f"must be 0 to {folds - 1} with data.folds={folds}"
        yield fault_of("data.fold", fold, rule, f"to train every fold: -m data.fold={every}")
    elif not 0 <= fold < folds:
        yield fault_of("data.fold", fold, f"must be 0 to {folds - 1} with data.folds={folds}", "folds count from 0")
    if data.source == FOLDER_SOURCE and data.root is not None:
        from convoy.data.listing.folders import find_layout
        from convoy.data.listing.split_lists import find_lists

        try:
            lists = find_lists(data)
            val = find_layout(data.root).val if lists is None else lists.files.get("val")
        except UserError:
            return
        if val is not None:
            rule = f"{val} is a val split, and a fold would replace it"
            remedy = "write data.folds=null data.fold=null, or move its images to train"
            yield fault_of("data.folds", folds, rule, remedy)
