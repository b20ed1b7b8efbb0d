"""Files that stand for the downloads of torchvision and the Hugging Face Hub, with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor


def publish_torchvision(hub: Path, name: str) -> dict[str, Tensor]:
    """Write weights of a network of torchvision to the folder of torch's hub, and return them.

    The rows of fully connected layers are overlapping parts of one line of numbers, so that the file is small.
    """
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in torchvision.models.get_model(name).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        if len(shape) == 2:
            line = torch.randn(sum(shape), generator=generator) * (2 / shape[1]) ** 0.5
            state[key] = line.as_strided(shape, (1, 1))
        elif len(shape) == 4:
            state[key] = torch.randn(shape, generator=generator) * (2 / shape[1:].numel()) ** 0.5
        else:
            state[key] = torch.rand(shape, generator=generator) + 0.1 if shape else torch.tensor(7)
    file = torchvision.models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    (hub / "checkpoints").mkdir(exist_ok=True)
    torch.save(state, hub / "checkpoints" / file)
    return state


def publish_on_hub(cache: Path, repository: str, state: Mapping[str, Tensor], revision: str = "0" * 40) -> None:
    """Write weights to the cache of the Hugging Face Hub as a download does."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / revision
    for path, text in ((folder / "refs" / "main", revision), (snapshot / "config.json", "{}")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    save_file(dict(state), snapshot / "model.safetensors")
