"""Small networks to attack, and what tests ask of them."""

import torch
from torch import nn

from harp.attacks.losses import wrong
from harp.modes import evaluating
from harp.randomness import Keyed, generator


def keys(n, name="attack"):
    return Keyed.of(torch.arange(n), 0, name)


def network(classes=10, dtype=torch.float64):
    """Random convolutions whose answers vary: over noise each class's logit has mean 0."""
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*features, nn.Linear(32, classes)).to(dtype)
    with torch.no_grad():
        model[-1].bias -= model(torch.rand(256, 3, 8, 8).to(dtype)).mean(0)
    return model


def points(model, n, dtype=torch.float64):
    """Images of the box and what the model says of them."""
    x = torch.rand(n, 3, 8, 8, generator=generator(0, "x")).to(dtype)
    with torch.no_grad():
        return x, model(x).argmax(1)


def broken(model, adv, y):
    with evaluating(model), torch.no_grad():
        return wrong(model(adv), y)


class Sees(nn.Module):
    """A network and the images it was asked about."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.model(x)
