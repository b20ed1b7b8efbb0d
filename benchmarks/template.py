"""Training of a network on Fashion-MNIST in the style of Hydra and Lightning templates, for benchmarks/startup.py.

All imports are at the top, and `hydra.utils.instantiate` builds everything from a config: a data module over
torchvision's data set with single Pillow images, a module with torchmetrics objects, callbacks, logger and Trainer.

    python -m benchmarks.template data.root=FOLDER      a folder with FashionMNIST/raw/ in torchvision's layout
"""

from __future__ import annotations

from typing import Any

import hydra
import pytorch_lightning as pl
import rich
import rich.syntax
import rich.tree
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, random_split
from torchmetrics import MaxMetric, MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms
from torchvision.datasets import FashionMNIST
from torchvision.models.resnet import BasicBlock, ResNet

Batch = tuple[Tensor, Tensor]


class LeNet5(nn.Sequential):
    """LeNet-5, equal to conf/model/lenet5.yaml."""

    def __init__(self) -> None:
        convolutions = [nn.Conv2d(1, 6, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.MaxPool2d(2)]
        layers = [nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)]
        super().__init__(*convolutions, *layers)


class ResNet18(ResNet):
    """Torchvision's ResNet-18 for grayscale images of 10 classes."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=10)
        self.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)


class FashionMnist(pl.LightningDataModule):
    """Fashion-MNIST: 60,000 images of 28 pixels, padded to 32, with 6,000 of them for validation."""

    def __init__(self, root: str, batch_size: int, num_workers: int) -> None:
        super().__init__()
        self.root, self.batch_size, self.num_workers = root, batch_size, num_workers

    def setup(self, stage: str) -> None:
        crop = transforms.RandomCrop(32, padding=4)
        steps = [transforms.Pad(2), crop, transforms.ToTensor(), transforms.Normalize((0.286,), (0.353,))]
        whole = FashionMNIST(self.root, train=True, transform=transforms.Compose(steps))
        self.train, self.val = random_split(whole, [54_000, 6_000], torch.Generator().manual_seed(1))

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.val, shuffle=False)

    def _loader(self, images: Dataset[Batch], *, shuffle: bool) -> DataLoader[Batch]:
        return DataLoader(images, self.batch_size, shuffle=shuffle, num_workers=self.num_workers)


class LitClassifier(pl.LightningModule):
    """Classifier with loss and accuracy as torchmetrics objects, logged in every step."""

    def __init__(self, network: nn.Module, optimizer: Any, scheduler: Any) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False, ignore=["network"])
        self.network, self.make_optimizer, self.make_scheduler = network, optimizer, scheduler
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.train_accuracy, self.val_accuracy = MulticlassAccuracy(10), MulticlassAccuracy(10)
        self.best = MaxMetric()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self.network(batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        self.train_loss(loss)
        self.train_accuracy(logits.argmax(1), batch[1])
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logits = self.network(batch[0])
        self.val_loss(nn.functional.cross_entropy(logits, batch[1]))
        self.val_accuracy(logits.argmax(1), batch[1])
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("val/accuracy", self.val_accuracy, on_step=False, on_epoch=True, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self.best(self.val_accuracy.compute())
        self.log("val/best", self.best.compute(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(params=self.parameters())
        scheduler = self.make_scheduler(optimizer=optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"}}


@hydra.main(version_base="1.3", config_path=".", config_name="template")
def main(config: DictConfig) -> None:
    """Instantiate all objects, print the config and fit."""
    pl.seed_everything(config.seed, workers=True)
    data, module = instantiate(config.data), instantiate(config.model)
    callbacks = [instantiate(one) for one in config.callbacks.values()]
    loggers = [instantiate(one) for one in config.logger.values()]
    trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers)
    tree = rich.tree.Tree("config")
    tree.add(rich.syntax.Syntax(OmegaConf.to_yaml(config), "yaml"))
    rich.print(tree)
    trainer.fit(module, datamodule=data)


if __name__ == "__main__":
    main()
