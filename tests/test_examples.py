"""Examples, run as their page says: each command of examples/README.md through the command line."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import command

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PAGE = (EXAMPLES / "README.md").read_text(encoding="utf-8")
QUICK = ("trainer.gpus=0", "hardware.cpu_threads=1")


def sections() -> dict[str, list[str]]:
    """Return the commands of the page by the example's folder, in order."""
    found: dict[str, list[str]] = {}
    folder = ""
    for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL):
        for line in block.splitlines():
            if line.startswith("cd examples/"):
                folder = line.removeprefix("cd examples/")
            else:
                found.setdefault(folder, []).append(line)
    return found


SECTIONS = sections()
OTHERS = [folder for folder in SECTIONS if folder not in ("network", "metric")]


def run(line: str, folder: Path, more: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    program, *words = shlex.split(line)
    assert program == "convoy"
    return subprocess.run(
        command([*words, *more]), cwd=folder, env=dict(os.environ), capture_output=True, text=True, check=False
    )


def done(line: str, folder: Path) -> str:
    more = QUICK if line.startswith("convoy train") else ()
    if "logger=" not in line and more:
        more = (*more, "logger=csv")
    ended = run(line, folder, more)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES / name, folder / name))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder with a trained run in it."""
    folder = copied("network", tmp_path_factory.mktemp("examples"))
    done(SECTIONS["network"][0], folder)
    return folder


def test_every_folder_has_a_section() -> None:
    assert set(SECTIONS) | {"notebooks"} == {path.name for path in EXAMPLES.iterdir() if path.is_dir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_an_example_trains(name: str, tmp_path: Path) -> None:
    folder = copied(name, tmp_path)
    printed = "".join(done(line, folder) for line in SECTIONS[name])
    (summary,) = folder.glob("outputs/*/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "finished"
    if name == "callback":
        assert "epoch 2 took" in printed
    if name == "logger":
        lines = (summary.parent / "metrics.jsonl").read_text().splitlines()
        assert any("val/loss" in json.loads(line) for line in lines)
    if name == "dataset":
        assert json.loads(summary.read_text())["test/top1"] > 0.95


@pytest.mark.slow
def test_a_metric_is_logged_and_chooses_the_best_checkpoint(tmp_path: Path) -> None:
    folder = copied("metric", tmp_path)
    done(SECTIONS["metric"][0], folder)
    (summary,) = folder.glob("outputs/*/*/summary.json")
    content = json.loads(summary.read_text())
    assert 0 < content["test/margin"] < 1
    assert "val/margin" in (summary.parent / "metrics.csv").read_text().splitlines()[0].split(",")


def test_the_loss_is_the_papers(tmp_path: Path) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    folder = copied("loss", tmp_path)
    program = (
        "import torch, confident\n"
        "logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]])\n"
        "print(confident.ConfidencePenalty(0.5)(logits, torch.tensor([0, 2])).item())"
    )
    printed = subprocess.run([command([])[0], "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    logits, labels = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), torch.tensor([0, 2])
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    assert float(printed.stdout) == pytest.approx((cross_entropy(logits, labels) - 0.5 * entropy).item(), abs=1e-6)


def test_the_page_shows_the_networks_option() -> None:
    option = (EXAMPLES / "network/conf/model/mynet.yaml").read_text().partition("\n")[2]
    assert f"```yaml\n{option}```" in PAGE


@pytest.mark.slow
def test_every_command_works_on_the_network(network: Path) -> None:
    for line in SECTIONS["network"][1:]:
        done(line, network)
    (run_folder,) = (path.parent for path in network.glob("outputs/mynet/*/summary.json"))
    assert (run_folder / "evaluation-digits-test.json").is_file()
    Image.new("L", (8, 8)).save(network / "photo.png")
    (line,) = re.findall(r"`(convoy predict [^`]*)`", PAGE)
    from_run = done(line, network)
    assert len(from_run.splitlines()) == 6  # the title and five classes
    exported = next(run_folder.glob("export/*.safetensors"))
    from_file = done(line.replace("run=latest", f"checkpoint={exported}"), network)
    assert [row.split()[:-1] for row in from_file.splitlines()] == [row.split()[:-1] for row in from_run.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "convoy evaluate run={run}",
        pytest.param("convoy export run={run} output=mynet.safetensors", marks=pytest.mark.slow),
        pytest.param("convoy predict run={run} {run}/photo.png", marks=pytest.mark.slow),
        pytest.param("convoy train resume={run} trainer.max_epochs=9", marks=pytest.mark.slow),
        "convoy train --from {run}/config.yaml",
    ],
)
def test_elsewhere_the_network_is_refused_and_not_imported(network: Path, tmp_path: Path, line: str) -> None:
    (run_folder,) = network.glob("outputs/mynet/*")
    # A module of that name is beside the user all the same.
    (tmp_path / "mynet.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    ended = run(line.format(run=run_folder), tmp_path)
    assert ended.returncode == 2
    assert "model._target_=mynet.MyNet: comes from a saved file" in ended.stderr
    assert "--config-dir <folder>" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "imported").exists()
    if line.startswith("convoy evaluate"):
        (tmp_path / "mynet.py").unlink()
        done(f"{line} --config-dir {network / 'conf'}".format(run=run_folder), tmp_path)


@pytest.mark.slow
def test_in_a_clone_one_file_and_one_module_suffice(tmp_path: Path) -> None:
    root = EXAMPLES.parent
    clone = tmp_path / "clone"
    for name in ("conf", "src/convoy"):
        shutil.copytree(root / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "train.py", clone)
    shutil.copy(EXAMPLES / "network/mynet.py", clone)
    shutil.copy(EXAMPLES / "network/conf/model/mynet.yaml", clone / "conf/model")
    environment = {**os.environ, "PYTHONPATH": str(clone / "src")}
    program = command([])[0]
    for words in (["model=mynet", "trainer.max_steps=2"], ["resume=latest", "trainer.max_steps=4"]):
        ended = subprocess.run(
            [program, "train.py", *words, *QUICK, "logger=csv"],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
    ended = subprocess.run(
        [program, "-m", "convoy.commands.main", "evaluate", "run=latest"],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
