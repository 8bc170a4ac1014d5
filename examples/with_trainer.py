"""HARP inside `transformers.Trainer`: a ResNet built from its configuration, digits, 5 % of the weights.

pip install harp-pruning[transformers] accelerate
python examples/with_trainer.py
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

import harp
from harp.data import Labelled, load

BATCH = 64
attack, threat, noise = harp.PGD(steps=3), harp.Threat(eps=0.1), torch.Generator().manual_seed(0)


class Network(ResNetForImageClassification):
    """The same parameters under the same names, and logits in place of an object that holds them."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = super().forward(pixel_values).logits
        return logits


class Pictures(Dataset[dict[str, Tensor]]):
    def __init__(self, images: Labelled):
        # Twice as wide: the network halves its images twice before its first block.
        self.x = nn.functional.interpolate(images.images / 255, scale_factor=2)
        self.y = images.labels

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.x[index], "labels": self.y[index]}


class AdversarialTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        x, y = inputs["pixel_values"], inputs["labels"]
        logits = model(attack(model, x, y, threat, noise))
        loss = cross_entropy(logits, y)
        return (loss, logits) if return_outputs else loss


def run(model: nn.Module, pictures: Pictures, pruner: harp.Pruner, epochs: int, lr: float) -> None:
    optimizer = harp.sgd(model, pruner, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(pictures) // BATCH))
    settings = TrainingArguments(
        output_dir="runs/with_trainer",
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH,
        dataloader_drop_last=True,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    with pruner.attach(optimizer):  # Trainer itself knows nothing of pruning
        AdversarialTrainer(model, settings, train_dataset=pictures, optimizers=(optimizer, schedule)).train()


def main() -> None:
    torch.manual_seed(0)
    digits = load("digits")
    train, test = Pictures(digits.train), Pictures(digits.test)
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=10
    )
    model = Network(config)
    sites, epoch = harp.find_sites(model), len(train) // BATCH
    run(model, train, harp.Pruner(sites), epochs=4, lr=0.1)  # the dense network
    search = harp.Harp(sites, harp.Budget(keep=0.05), options=harp.HarpOptions(gamma=0.1), course=harp.Course(epoch))
    run(model, train, search, epochs=6, lr=0.1)  # which weights, and how many in each layer
    kept = harp.Masked(sites, search.settle())
    run(model, train, kept, epochs=4, lr=0.05)  # what is left

    images = list(harp.Loader(DataLoader(TensorDataset(test.x, test.y), 250), device="cpu").once())
    accuracy = harp.summary(harp.evaluate(model, images, {"pgd": harp.PGD(steps=10)}, threat).flags)
    manifest = harp.bake(model, kept.masks, "runs/with_trainer", images)
    print(f"clean {accuracy['clean']['accuracy']:.3f}, under PGD-10 {accuracy['pgd']['accuracy']:.3f}")
    print(f"kept {manifest['kept']} of {manifest['total']} weights: runs/with_trainer/{manifest['file']}")


if __name__ == "__main__":
    main()
