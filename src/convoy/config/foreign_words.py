"""Key and option names of other training tools, with Convoy's name for each."""

from __future__ import annotations

KEYS = {
    "batch_size": "trainer.global_batch_size",
    "bs": "trainer.global_batch_size",
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay",
    "wd": "optimizer.weight_decay",
    "devices": "trainer.gpus",
    "accelerator": "trainer.gpus",
    "gpus": "trainer.gpus",
    "num_nodes": "trainer.nodes",
    "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "num_workers": "data.num_workers",
    "workers": "data.num_workers",
    "pretrained": "model.pretrained",
    "gradient_clip_val": "trainer.clip_grad_norm",
    "dropout": "model.dropout",
    "label_smoothing": "trainer.label_smoothing",
    "warmup_epochs": "scheduler.warmup_epochs",
    "imgsz": "data.image_size",
    "img_size": "data.image_size",
}
"""Last part of a key, as Lightning, timm, torchvision's references, Ultralytics and Keras write it."""

VALUES = {
    "trainer.precision": {"bf16": "bf16-mixed", "16": "16-mixed", "fp16": "16-mixed", "fp32": "32"},
    "scheduler": {"cosine_annealing": "cosine", "cosine_annealing_lr": "cosine", "CosineAnnealingLR": "cosine"},
}
"""Values of a key, or options of a group, as other tools write them."""


def translated(key: str) -> str | None:
    """Return Convoy's key for a key of another tool, or None where there is none."""
    return KEYS.get(key.rpartition(".")[2])
