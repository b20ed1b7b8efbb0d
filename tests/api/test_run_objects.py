"""The Python API in the process of its caller: the same runs as the command's, and no trace but files."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import TINY, Run, read_rows

import convoy
from convoy.config.schema import Config
from convoy.records.console import LIBRARIES
from convoy.runs.lock import is_locked

SHORT = (*TINY, "trainer.max_steps=4", "data=digits")


def test_a_run_has_its_records(capfd: pytest.CaptureFixture[str]) -> None:
    run = convoy.train(*SHORT)
    assert "val/top1" not in capfd.readouterr().err
    assert run.path.parent == Path("outputs/lenet5").absolute()
    assert (run.state, run.summary["status"], run.summary["steps"]) == ("finished", "finished", 4)
    assert isinstance(run.config, Config)
    assert (run.config.trainer.max_steps, run.config.data.name) == (4, "digits")
    assert convoy.open_run() == convoy.open_run(run.path) == convoy.open_run("lenet5") == run
    assert convoy.open_run(run.path.name.rsplit("-", 1)[1]) == run
    metrics = run.metrics
    assert metrics["step"].tolist() == [int(row["step"]) for row in read_rows(run.path)]
    assert metrics["val/top1"].dropna().iloc[-1] == pytest.approx(run.summary["val/top1"])
    assert repr(run).startswith("Run(outputs/lenet5/")
    assert ", finished, val/top1 " in repr(run)
    assert "<td>finished</td>" in run._repr_html_()
    page = run.report("page.html")
    assert f"{run.summary['val/top1']:.2%}" in page.read_text()
    assert run.report() == run.path / "report.html"


def test_a_run_of_a_script_is_that_of_the_command(convoy: Callable[..., Run], tmp_path: Path) -> None:
    """With the same losses, after work with random numbers in the script."""
    assert convoy("train", *SHORT, folder="command").code == 0
    script = tmp_path / "script.py"
    script.write_text(
        "import random, torch, convoy\nrandom.random(), torch.rand(5)\n"
        f"run = convoy.train(*{(*SHORT, 'folder=script')!r})\n"
        "print(run.summary['status'], run.network(torch.zeros(2, 1, 32, 32)).shape)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "finished torch.Size([2, 10])"
    assert read_rows(tmp_path / "script") == read_rows(tmp_path / "command")


def test_a_run_is_evaluated_resumed_and_predicts(capfd: pytest.CaptureFixture[str]) -> None:
    run = convoy.train(*SHORT)
    capfd.readouterr()
    values = run.evaluate(split="val")
    assert values["val/top1"] == pytest.approx(run.summary["val/top1"])
    assert capfd.readouterr().out == ""
    network = run.network
    assert not network.training
    assert isinstance(network, torch.nn.Module)
    with pytest.raises(convoy.UserError, match=r"^model=vgg16: can't be changed by evaluate; override data"):
        run.evaluate("model=vgg16")
    assert run.resume("trainer.max_steps=6") == run
    assert run.summary["steps"] == 6
    with pytest.raises(convoy.UserError, match="has done all its 6 steps"):
        run.resume()
    assert not is_locked(run.path)


def test_images_of_every_kind_have_the_same_prediction(tmp_path: Path) -> None:
    run = convoy.train(*SHORT)
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    expected = run.predict(tmp_path / "a.png", top=2)
    assert [one["class"] for one in expected["classes"]] == [one["class"] for one in run.predict(pixels)["classes"][:2]]
    color = np.stack([pixels] * 3, axis=2)
    for image in (
        *(str(tmp_path / "a.png"), picture, pixels, pixels[:, :, None], pixels / 255, color),
        *(torch.from_numpy(pixels), torch.from_numpy(pixels)[None], torch.from_numpy(pixels)[None] / 255),
        torch.from_numpy(color).permute(2, 0, 1),
    ):
        assert run.predict(image, top=2) == expected
    several = run.predict([tmp_path / "a.png", picture, torch.from_numpy(pixels)], top=2)
    assert several == run.predict(np.stack([pixels[:, :, None]] * 3), top=2)
    assert [one["classes"][0]["class"] for one in several] == [expected["classes"][0]["class"]] * 3
    assert run.predict([]) == []
    for wrong, message in (
        (tmp_path / "b.png", "can't be read"),
        (pixels * 1.0, "floating-point values must be from 0 to 1"),
        (pixels.astype(np.int64), "values must be uint8"),
        (np.zeros((4, 4, 7), np.uint8), "with 1 or 3 channels"),
        ([3], "must be a path, a PIL image"),
    ):
        with pytest.raises(convoy.UserError, match=message):
            run.predict(wrong)


def test_mistakes_are_those_of_the_command_and_write_nothing(convoy: Callable[..., Run], tmp_path: Path) -> None:
    import convoy as api

    for words in (("modle=vgg16",), ("model=vgg61", "trainer.max_epochs=-1"), ("folder=x", "resume=nowhere")):
        command = convoy("train", *words, folder=None)
        with pytest.raises(api.UserError) as caught:
            api.train(*words)
        assert [str(fault) for fault in caught.value.faults] == [
            line.removeprefix("error: ").strip() for line in command.err.splitlines() if not line.endswith("errors:")
        ]
    with pytest.raises(api.UserError, match="no such run"):
        api.open_run("nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", [convoy.train, convoy.compose, convoy.plan, convoy.ledger])
@pytest.mark.parametrize("given", [["model=lenet5", "data=digits"], {"model": "lenet5"}])
def test_words_must_be_strings(call: Callable[..., Any], given: Any) -> None:
    with pytest.raises(convoy.UserError, match=r'must be strings, not (list|dict); write them .* convoy\.train\("'):
        call(given)


def test_the_shape_of_an_image_has_three_numbers() -> None:
    with pytest.raises(convoy.UserError, match=r"input_shape=224: must be \(channels, height, width\); write such as"):
        convoy.ledger(torch.nn.Linear(2, 2), 224)


def test_a_run_that_breaks_raises_with_the_run() -> None:
    with pytest.raises(convoy.RunError, match="ended: not finite; its run") as caught:
        convoy.train(*SHORT, "optimizer.lr=1e30", "trainer.clip_grad_norm=null")
    assert caught.value.run.state == "failed"
    assert isinstance(caught.value, convoy.UserError)


def process_state() -> dict[str, Any]:
    """Return what a call must leave as it was."""
    loggers = {name: logging.getLogger(name) for name in LIBRARIES}
    return {
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in signal.valid_signals() if number not in (9, 19)],
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "grad": torch.is_grad_enabled(),
        "loggers": [(list(one.handlers), one.propagate, one.level) for one in loggers.values()],
        "showwarning": warnings.showwarning,
        "collector": gc.isenabled(),
        "folder": Path.cwd(),
        "argv": list(sys.argv),
        "handlers": list(logging.getLogger().handlers),
    }


def test_a_call_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "mine.log")
    logging.getLogger("pytorch_lightning").addHandler(handler)
    torch.set_num_threads(2)
    convoy.train(*SHORT)  # Lightning's own imports change some settings once
    before = process_state()
    run = convoy.train(*SHORT, "seed=3", "trainer.deterministic=true")
    run.evaluate()
    run.predict(np.zeros((8, 8), np.uint8))
    convoy.compose("model=vgg16")
    with pytest.raises(convoy.UserError):
        convoy.train("model=vgg61")
    after = process_state()
    assert {name for name in before if before[name] != after[name]} == set()
    assert [thread.name for thread in threading.enumerate() if "convoy" in thread.name] == []
    logging.getLogger("pytorch_lightning").removeHandler(handler)
    handler.close()


def test_memory_returns_after_each_run() -> None:
    def live() -> int:
        gc.collect()
        return sum(one.numel() for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter))

    convoy.train(*SHORT)
    before = live()
    for _ in range(2):
        convoy.train(*SHORT)
    assert live() == before


def test_a_program_of_hydra_keeps_its_state() -> None:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from convoy.config.options import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert convoy.compose("model=vgg16").model["name"] == "vgg16"
        assert GlobalHydra.instance().is_initialized()
        assert "model" in compose("train")


def test_two_threads_train_one_after_the_other() -> None:
    """With the losses that each has alone."""
    alone = {seed: read_rows(convoy.train(*SHORT, f"seed={seed}").path) for seed in (1, 2)}
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda seed: convoy.train(*SHORT, f"seed={seed}"), (1, 2)))
    assert [read_rows(run.path) for run in runs] == [alone[1], alone[2]]


def test_a_run_that_is_called_by_a_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import convoy, pytorch_lightning as pl\n\n\n"
        "class Nested(pl.Callback):\n"
        "    def on_train_start(self, trainer, pl_module):\n"
        "        convoy.train('model=lenet5')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(convoy.UserError, match="is called by a run of the same thread; call it after the run"):
        convoy.train(*SHORT, "+callback.nested._target_=mine.Nested")
    convoy.train(*SHORT)


INTERRUPTED = """
import os, signal, sys, threading, time
import convoy

def interrupt():
    run = None
    while run is None:
        time.sleep(0.05)
        for path in __import__('pathlib').Path('run').glob('metrics.csv'):
            if path.read_text().count('\\n') > 3:
                run = path
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
threading.Thread(target=interrupt, daemon=True).start()
before = signal.getsignal(signal.SIGINT)
try:
    convoy.train(*WORDS)
except KeyboardInterrupt:
    print("interrupted")
assert signal.getsignal(signal.SIGINT) is before
run = convoy.open_run("run")
print(run.state, run.path.joinpath("checkpoints", "last.ckpt").is_file())
steps = run.summary["steps"]
run.resume(f"trainer.max_steps={steps + 5}")
print(run.state, run.summary["steps"] - steps)
"""


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupted_run_is_saved_and_resumed(tmp_path: Path, ranks: int) -> None:
    long = [word for word in TINY if "max_epochs" not in word and "log_every" not in word]
    words = [*long, "trainer.max_epochs=500", "trainer.log_every_steps=1", "folder=run", f"trainer.processes={ranks}"]
    script = INTERRUPTED.replace("WORDS", repr(words))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert "interrupted" in lines
    assert lines[lines.index("interrupted") + 1] == "stopped True"
    assert lines[-1] == "finished 5"
    steps = [int(row["step"]) for row in read_rows(tmp_path / "run") if row["train/loss"]]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.slow
def test_a_run_of_two_ranks_is_trained_by_a_process() -> None:
    run = convoy.train(*SHORT, "trainer.processes=2")
    assert (run.state, run.summary["steps"]) == ("finished", 4)
    assert time.time() - run.path.stat().st_mtime < 600
    with pytest.raises(convoy.UserError, match="has done all its 4 steps"):
        run.resume()
