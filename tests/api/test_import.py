"""Import of convoy: light, lazy and complete."""

from __future__ import annotations

import subprocess
import sys

import convoy


def test_the_import_is_light() -> None:
    """Names are imported at their first use, and importing alone loads nothing of Convoy besides its name."""
    code = "import sys\nimport convoy\nprint([name for name in sys.modules if name.startswith('convoy')])\n"
    code += "convoy.UserError\nprint(*{'torch', 'hydra', 'pandas', 'numpy', 'omegaconf'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['convoy']\n\n"


def test_every_name_is_there() -> None:
    for name in convoy.__all__:
        assert getattr(convoy, name).__name__ in (name, "convoy.ledger")
        assert name in dir(convoy)
    assert not hasattr(convoy, "trian")
