"""Tests of the garbage collector's settings in the process of a command."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import pytest
from tests.conftest import TINY

from convoy.runtime.garbage_collection import collect_as_usual

SCRIPT = """
import gc, json, sys
from pytorch_lightning import Trainer
from convoy.commands.main import main
from convoy.runtime.garbage_collection import collect_rarely

usual, fit, seen = gc.get_threshold(), Trainer.fit, {}

def observed(*arguments, **options):
    seen.update(frozen=gc.get_freeze_count(), is_usual=gc.get_threshold() == usual)
    return fit(*arguments, **options)

Trainer.fit = observed
collect_rarely()
assert main(["train", *sys.argv[1:], "trainer.max_steps=1"]) == 0
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_a_run_leaves_imported_modules_out_of_collections() -> None:
    program = [sys.executable, "-c", SCRIPT, *TINY, "folder=run", "report=false"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["is_usual"], done.stderr
    assert seen["frozen"] > 100_000


def test_a_process_that_is_not_a_commands_is_left_as_it_is() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    collect_as_usual()
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
