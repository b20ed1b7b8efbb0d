"""Tables as data frames of pandas, which is an optional dependency. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convoy.config.faults import Fault, UserError

if TYPE_CHECKING:
    import pandas as pd


def data_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a data frame.

    Raises:
        UserError: if pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UserError(Fault("pandas", "is not installed", "pip install 'convoy[pandas]'")) from error
    return pd.DataFrame(list(rows))
