"""HARP inside Lightning: a LightningModule whose optimizer is harp's, digits, 5 % of the weights.

pip install harp-pruning lightning
python examples/with_lightning.py
"""

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import harp
from harp.data import load


class AdversarialTraining(lightning.LightningModule):
    def __init__(self, network: nn.Module, pruner: harp.Pruner, lr: float):
        super().__init__()
        self.network, self.pruner, self.lr = network, pruner, lr
        self.attack, self.threat = harp.PGD(steps=3), harp.Threat(eps=0.1)
        self.noise = torch.Generator().manual_seed(0)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = harp.sgd(self.network, self.pruner, lr=self.lr)
        self.pruner.attach(optimizer)  # the only line that knows of pruning
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        adv = self.attack(self.network, x, y, self.threat, self.noise)
        return cross_entropy(self.network(adv), y)


def run(network: nn.Module, train: DataLoader[tuple[Tensor, ...]], pruner: harp.Pruner, epochs: int, lr: float) -> None:
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(AdversarialTraining(network, pruner, lr), train)


def main() -> None:
    torch.manual_seed(0)
    digits = load("digits")
    train = DataLoader(TensorDataset(digits.train.images / 255, digits.train.labels), 64, shuffle=True, drop_last=True)
    test = harp.Loader(DataLoader(TensorDataset(digits.test.images / 255, digits.test.labels), 250), device="cpu")
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 10)),
    )
    sites = harp.find_sites(network)
    run(network, train, harp.Pruner(sites), epochs=4, lr=0.1)  # the dense network
    search = harp.Harp(
        sites, harp.Budget(keep=0.05), options=harp.HarpOptions(gamma=0.1), course=harp.Course(len(train))
    )
    run(network, train, search, epochs=6, lr=0.1)  # which weights, and how many in each layer
    kept = harp.Masked(sites, search.settle())
    run(network, train, kept, epochs=4, lr=0.05)  # what is left

    accuracy = harp.summary(
        harp.evaluate(network, list(test.once()), {"pgd": harp.PGD(steps=10)}, harp.Threat(eps=0.1)).flags
    )
    manifest = harp.bake(network, kept.masks, "runs/with_lightning", test.once())
    print(f"clean {accuracy['clean']['accuracy']:.3f}, under PGD-10 {accuracy['pgd']['accuracy']:.3f}")
    print(f"kept {manifest['kept']} of {manifest['total']} weights: runs/with_lightning/{manifest['file']}")


if __name__ == "__main__":
    main()
