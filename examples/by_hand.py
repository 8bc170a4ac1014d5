"""HARP in a training loop written by hand: digits, 5 % of the weights, adversarial from the first step.

python examples/by_hand.py
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import harp
from harp.data import load

torch.manual_seed(0)
digits = load("digits")
train = DataLoader(TensorDataset(digits.train.images / 255, digits.train.labels), 64, shuffle=True, drop_last=True)
test = harp.Loader(DataLoader(TensorDataset(digits.test.images / 255, digits.test.labels), 250), device="cpu")
model = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
    *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
    *(nn.Flatten(), nn.Linear(512, 10)),
)
attack, threat, noise = harp.PGD(steps=3), harp.Threat(eps=0.1), torch.Generator().manual_seed(0)


def run(pruner: harp.Pruner, epochs: int, lr: float) -> None:
    optimizer = harp.sgd(model, pruner, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train))
    with pruner.attach(optimizer):  # the only line that knows of pruning
        for _ in range(epochs):
            for x, y in train:
                adv = attack(model, x, y, threat, noise)
                optimizer.zero_grad()
                cross_entropy(model(adv), y).backward()
                optimizer.step()
                schedule.step()


sites = harp.find_sites(model)
run(harp.Pruner(sites), epochs=4, lr=0.1)  # the dense network
search = harp.Harp(sites, harp.Budget(keep=0.05), options=harp.HarpOptions(gamma=0.1), course=harp.Course(len(train)))
run(search, epochs=6, lr=0.1)  # which weights, and how many in each layer
kept = harp.Masked(sites, search.settle())
run(kept, epochs=4, lr=0.05)  # what is left

accuracy = harp.summary(harp.evaluate(model, list(test.once()), {"pgd": harp.PGD(steps=10)}, threat).flags)
manifest = harp.bake(model, kept.masks, "runs/by_hand", test.once())
print(f"clean {accuracy['clean']['accuracy']:.3f}, under PGD-10 {accuracy['pgd']['accuracy']:.3f}")
print(f"kept {manifest['kept']} of {manifest['total']} weights: runs/by_hand/{manifest['file']}")
