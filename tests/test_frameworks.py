"""Clipping by the loops of others: what pruned weights would have got does not shrink what the others get."""

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainingArguments

import harp

# Gradients 3 and 4 at the weights that stay, and this at the one that does not.
PRUNED = [0.0, 1000.0]
MOVED = [[0.4, 1.2, 0.0]]  # weights 1 and 2 less (3, 4) clipped to length 1
WHOLE = [[-2.0, -2.0, 0.0]]  # and unclipped


def network():
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0, 0.0]]))
    return model, harp.Masked(harp.find_sites(model), harp.Masks({"weight": torch.tensor([[True, True, False]])}))


class One(Dataset[dict[str, torch.Tensor]]):
    """One example, whose sum of outputs has the gradient above."""

    def __init__(self, pruned):
        self.x = torch.tensor([3.0, 4.0, pruned])

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {"x": self.x, "labels": torch.tensor(0)}


class Summing(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return model(inputs["x"]).sum()


@pytest.mark.parametrize("pruned", PRUNED)
def test_the_trainers_default_norm_of_1_is_that_of_what_is_left(pruned, tmp_path):
    model, pruner = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    settings = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    with pruner.attach(optimizer):
        Summing(model, settings, train_dataset=One(pruned), optimizers=(optimizer, schedule)).train()
    torch.testing.assert_close(model.weight, torch.tensor(MOVED))


class Training(lightning.LightningModule):
    def __init__(self, network, pruner):
        super().__init__()
        self.network, self.pruner = network, pruner

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.network.parameters(), lr=1.0)
        self.pruner.attach(optimizer)
        return optimizer

    def training_step(self, batch):
        return self.network(batch["x"]).sum()


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.parametrize("pruned", PRUNED)
@pytest.mark.parametrize(("clip", "expected"), [(1.0, MOVED), (None, WHOLE)])
def test_so_is_lightnings(pruned, clip, expected):
    model, pruner = network()
    trainer = lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        gradient_clip_val=clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Training(model, pruner), DataLoader(One(pruned)))
    torch.testing.assert_close(model.weight, torch.tensor(expected))
