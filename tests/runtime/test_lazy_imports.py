"""Deferred imports of scipy.signal and matplotlib, which work when used, and disabled garbage collection."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from convoy.runtime.garbage_collection import without_collector

DEFER = "import sys\nfrom convoy.runtime.lazy_imports import defer_unused\ndefer_unused()\n"


def printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_a_run_does_not_load_them() -> None:
    words = "['train', 'logger=csv', 'data=fashion_mnist', 'trainer.gpus=0', 'trainer.max_steps=1', '--help']"
    code = f"import sys\nfrom convoy.commands.main import main\nmain({words})\nimport convoy.training.run\n"
    names = "('scipy.signal', 'scipy.signal.windows', 'torchmetrics.utilities.plot', 'matplotlib')"
    assert printed(code + f"print([name in sys.modules for name in {names}])").endswith("[True, False, True, False]")


@pytest.mark.slow
def test_matplotlib_can_be_imported() -> None:
    """Before torchmetrics and after it, with the metrics' values as they are."""
    metric = "from torchmetrics.regression import MeanSquaredError\nimport torch\n"
    value = "print(MeanSquaredError()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])))\n"
    drawn = "from matplotlib.figure import Figure\nprint(len(Figure().subplots(1, 2)))\n"
    for code in (metric + value + drawn, drawn + metric + value):
        assert printed(DEFER + code) == printed(code)


@pytest.mark.slow
def test_every_way_to_use_scipy_signal_loads_it() -> None:
    """Compare with the attributes of the module without the import hook."""
    uses = (
        "from scipy.signal import convolve\nprint(convolve([1, 2], [3, 4]))",
        "import scipy.signal\nprint(scipy.signal.windows.hamming(5), len(dir(scipy.signal.windows)))",
        "from scipy.signal import *\nprint(convolve.__name__, len(__import__('scipy.signal').signal.__all__))",
    )
    for use in uses:
        assert printed(DEFER + use) == printed(use), use


def test_the_name_that_is_looked_for_is_the_window() -> None:
    code = "import scipy.signal\nprint(hasattr(scipy.signal, 'hamming'), 'scipy.signal.windows' in sys.modules)\n"
    assert printed(DEFER + code) == "True False"
    same = "import scipy.signal\nprint((scipy.signal.hamming(7) == scipy.signal.windows.hamming(7)).all())"
    assert printed(DEFER + same) == "True"


def test_garbage_collection_pauses_and_resumes() -> None:
    assert gc.isenabled()
    with without_collector():
        assert not gc.isenabled()
    with pytest.raises(ImportError), without_collector():
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
