"""Names of keys and options in other training tools, with Convoy's name for each.

The tools are Lightning's Trainer, timm's train.py, torchvision's references, Ultralytics, Keras and the Hugging Face
Trainer.
"""

from __future__ import annotations

KEYS = {
    "batch_size": "trainer.global_batch_size",
    "batch": "trainer.global_batch_size",
    "bs": "trainer.global_batch_size",
    "train_batch_size": "trainer.global_batch_size",
    "per_device_train_batch_size": "trainer.micro_batch_size",
    "val_batch_size": "trainer.eval_batch_size",
    "validation_batch_size": "trainer.eval_batch_size",
    "lr": "optimizer.lr",
    "lr0": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "momentum": "optimizer.momentum",
    "nesterov": "optimizer.nesterov",
    "weight_decay": "optimizer.weight_decay",
    "wd": "optimizer.weight_decay",
    "devices": "trainer.gpus",
    "gpus": "trainer.gpus",
    "num_gpus": "trainer.gpus",
    "num_nodes": "trainer.nodes",
    "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "num_train_epochs": "trainer.max_epochs",
    "steps": "trainer.max_steps",
    "num_steps": "trainer.max_steps",
    "max_iters": "trainer.max_steps",
    "num_workers": "data.num_workers",
    "workers": "data.num_workers",
    "dataloader_num_workers": "data.num_workers",
    "data_dir": "data.root",
    "data_path": "data.root",
    "dataset_path": "data.root",
    "val_split": "data.val_fraction",
    "validation_split": "data.val_fraction",
    "val_size": "data.val_fraction",
    "imgsz": "data.image_size",
    "img_size": "data.image_size",
    "input_size": "data.image_size",
    "crop_size": "data.image_size",
    "image_size": "data.image_size",
    "in_chans": "data.channels",
    "in_channels": "data.channels",
    "num_channels": "data.channels",
    "num_classes": "data.num_classes",
    "nc": "data.num_classes",
    "pretrained": "model.pretrained",
    "weights": "model.pretrained",
    "freeze": "model.freeze",
    "layer_decay": "optimizer.layer_decay",
    "freeze_bn": "model.freeze_norms",
    "gradient_clip_val": "trainer.clip_grad_norm",
    "clip_grad": "trainer.clip_grad_norm",
    "max_grad_norm": "trainer.clip_grad_norm",
    "grad_clip": "trainer.clip_grad_norm",
    "clipnorm": "trainer.clip_grad_norm",
    "label_smoothing": "loss.label_smoothing",
    "smoothing": "loss.label_smoothing",
    "mixup": "task.mixup",
    "mixup_alpha": "task.mixup",
    "cutmix": "task.cutmix",
    "cutmix_alpha": "task.cutmix",
    "model_ema_decay": "trainer.ema_decay",
    "ema": "trainer.ema_decay",
    "sam": "trainer.sam_radius",
    "rho": "trainer.sam_radius",
    "swa": "trainer.swa_start_epoch",
    "swa_epoch_start": "trainer.swa_start_epoch",
    "patience": "trainer.early_stopping_epochs",
    "early_stopping_patience": "trainer.early_stopping_epochs",
    "early_stopping": "trainer.early_stopping_epochs",
    "precision": "trainer.precision",
    "reprob": "data.augment.erasing",
    "warmup_epochs": "scheduler.warmup_epochs",
    "lr_warmup_epochs": "scheduler.warmup_epochs",
    "log_every_n_steps": "trainer.log_every_steps",
    "log_interval": "trainer.log_every_steps",
    "print_freq": "trainer.log_every_steps",
    "logging_steps": "trainer.log_every_steps",
    "every_n_train_steps": "trainer.checkpoint_every_steps",
    "save_steps": "trainer.checkpoint_every_steps",
    "save_period": "checkpoint.every_epochs",
    "save_freq": "checkpoint.every_epochs",
    "save_total_limit": "checkpoint.save_top_k",
    "gradient_checkpointing": "trainer.activation_checkpointing",
    "grad_checkpointing": "trainer.activation_checkpointing",
    "torch_compile": "trainer.compile",
    "torchcompile": "trainer.compile",
    "detect_anomaly": "debug.detect_anomaly",
    "limit_val_batches": "debug.eval_batches",
    "limit_test_batches": "debug.eval_batches",
    "random_seed": "seed",
    "manual_seed": "seed",
    "seed_everything": "seed",
    "output_dir": "output_root",
    "output": "output_root",
    "default_root_dir": "output_root",
    "project": "output_root",
    "exp_name": "name",
    "run_name": "name",
    "experiment_name": "name",
    "ckpt_path": "resume",
    "resume_from_checkpoint": "resume",
    "arch": "model",
    "network": "model",
    "backbone": "model",
    "architecture": "model",
    "dataset": "data",
    "dataset_name": "data",
    "datamodule": "data",
    "opt": "optimizer",
    "optim": "optimizer",
    "sched": "scheduler",
    "lr_scheduler": "scheduler",
    "lr_scheduler_type": "scheduler",
    "criterion": "loss",
    "loss_fn": "loss",
    "loss_function": "loss",
    "metrics": "metric",
    "callbacks": "callback",
    "loggers": "logger",
    "report_to": "logger",
}
"""Convoy's key or group by the last part of another tool's key with the same values."""

ADVICE = {
    "device": "write trainer.gpus=<number of GPUs>, or trainer.gpus=0 for the CPU; CUDA_VISIBLE_DEVICES selects GPUs",
    "accelerator": "write trainer.gpus=0 for the CPU, or trainer.gpus=<number of GPUs>",
    "strategy": "omit it: several GPUs or processes train with DDP",
    "accumulate_grad_batches": "write trainer.micro_batch_size=…: steps accumulate up to trainer.global_batch_size",
    "gradient_accumulation_steps": "write trainer.micro_batch_size=…: steps accumulate up to trainer.global_batch_size",
    "grad_accum_steps": "write trainer.micro_batch_size=…: steps accumulate up to trainer.global_batch_size",
    "amp": "write trainer.precision=bf16-mixed or trainer.precision=16-mixed",
    "fp16": "write trainer.precision=16-mixed",
    "bf16": "write trainer.precision=bf16-mixed",
    "fast_dev_run": "write debug=fast",
    "overfit_batches": "write debug=overfit",
    "profiler": "write debug=profile",
    "limit_train_batches": "write trainer.max_steps=…",
    "dropout": "write +model.dropout=… if the network takes it, or DROPOUT<p> in model.layers",
    "drop": "write +model.drop_rate=… for a network of timm",
    "drop_path": "write model.stochastic_depth=… for a ResNet, +model.drop_path_rate=… for a network of timm",
    "shuffle": "omit it: training data is always shuffled",
    "pin_memory": "omit it: memory is pinned for GPUs",
    "persistent_workers": "omit it: images are decoded by threads",
    "benchmark": "omit it, or write trainer.deterministic=true for reproducible results",
    "monitor": "write task.monitor=val/<metric> and task.mode=max or min",
    "check_val_every_n_epoch": "omit it: val is evaluated after every epoch",
    "cos_lr": "write scheduler=cosine",
    "lrf": "write scheduler=cosine scheduler.final_fraction=…",
    "min_lr": "write scheduler.final_fraction=…, a share of optimizer.lr",
    "step_size": "write scheduler=step scheduler.step_size=…",
    "lr_step_size": "write scheduler=step scheduler.step_size=…",
    "milestones": "write scheduler=multistep scheduler.milestones=[…]",
    "config": "write --config-dir <folder of options> or --from <config.yaml>",
    "verbose": "omit it; trainer.log_every_steps sets the logging interval",
}
"""Remedy by the last part of another tool's key without an equivalent key."""

VALUES = {
    "trainer.precision": {
        "bf16": "bf16-mixed",
        "bfloat16": "bf16-mixed",
        "16": "16-mixed",
        "fp16": "16-mixed",
        "float16": "16-mixed",
        "half": "16-mixed",
        "fp32": "32",
        "float32": "32",
        "32-true": "32",
    },
    "trainer.gpus": {"cpu": "0", "cuda": "auto", "gpu": "auto"},
    "trainer.early_stopping_epochs": {"true": "10", "false": "null"},
    "trainer.ema_decay": {"true": "0.999", "false": "null"},
    "trainer.sam_radius": {"true": "0.05", "false": "null"},
    "model.pretrained": {"imagenet1k_v1": "true", "imagenet1k_v2": "true"},
    "scheduler": {
        "cosine_annealing": "cosine",
        "cosine_annealing_lr": "cosine",
        "cosineannealinglr": "cosine",
        "steplr": "step",
        "multisteplr": "multistep",
        "multi_step": "multistep",
        "reducelronplateau": "plateau",
        "reduce_on_plateau": "plateau",
        "none": "constant",
        "linearlr": "linear",
        "one_cycle": "onecycle",
        "onecyclelr": "onecycle",
        "poly": "polynomial",
        "polynomiallr": "polynomial",
        "sgdr": "cosine_restarts",
        "warm_restarts": "cosine_restarts",
        "cosineannealingwarmrestarts": "cosine_restarts",
        "cosine_with_restarts": "cosine_restarts",
    },
    "optimizer": {"momentum": "sgd", "nesterov": "sgd"},
    "loss": {"ce": "cross_entropy", "crossentropy": "cross_entropy", "crossentropyloss": "cross_entropy"},
    "logger": {"tb": "tensorboard", "none": "csv"},
}
"""Convoy's values and options by their names in other tools, in lower case."""


OPTION_ADVICE = {
    "callback": {
        "earlystopping": "write trainer.early_stopping_epochs=10",
        "modelcheckpoint": "omit it: best.ckpt and last.ckpt are written; checkpoint.save_top_k=… keeps more",
        "learningratemonitor": "omit it: metrics.csv has the learning rate",
        "lrmonitor": "omit it: metrics.csv has the learning rate",
        "stochasticweightaveraging": "write trainer.swa_start_epoch=…",
        "swa": "write trainer.swa_start_epoch=…",
        "modelsummary": "omit it: every run writes a ledger; convoy ledger prints it",
        "richprogressbar": "omit it: a terminal shows progress",
        "gradientaccumulationscheduler": "write trainer.micro_batch_size=…: steps accumulate up to the global batch",
    },
}
"""Remedy by group for classes of other tools without an option, in lower case without underscores."""


def assignment(key: str, value: str) -> str:
    """Return the override of one of Convoy's keys for a value of another tool."""
    return f"{key}={translated_value(key, value) or value}"


def option_advice(group: str, name: str) -> str | None:
    """Return the remedy for an option of another tool that needs none here."""
    return OPTION_ADVICE.get(group, {}).get(name.lower().replace("_", ""))


def translated(key: str) -> str | None:
    """Return Convoy's key for a key of another tool, or None if there is none."""
    return KEYS.get(key.rpartition(".")[2].lower())


def advice(key: str) -> str | None:
    """Return the remedy for a key of another tool without an equivalent key."""
    return ADVICE.get(key.rpartition(".")[2].lower())


def translated_value(key: str, value: str) -> str | None:
    """Return Convoy's value for a value of another tool, or None if there is none."""
    return VALUES.get(key, {}).get(value.lower())
