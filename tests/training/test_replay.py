"""The published training, written down once more from its equations (METHODS 1.2 to 1.4), against `fit`, step by step.

Nothing of harp computes here but the names of the random draws: masks are made anew in every forward pass, as in the
published layers, gradients go through autograd alone, and weights, scores and rates are plain leaves of one SGD.

In float64, because attacks go by the sign of a gradient: TRADES' is a difference of almost equal numbers near the
image, and float32 decides on the sign of one pixel in a thousand by rounding, after which two trainings part.
"""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, cross_entropy, linear

import harp
from harp.randomness import generator
from harp.training import SCHEDULES

EPS, STEP, ATTACK_STEPS, BETA = 0.1, 0.025, 3, 6.0
EPOCH, STEPS = 6, 30
KEEP, ALPHA, FIRST, GAMMA = 0.2, 0.1, 0.5, 0.05
LR, MOMENTUM, DECAY = 0.1, 0.9, 5e-4
SITES = ("0.weight", "3.weight", "7.weight")


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    ).double()


class Batches:
    """Six batches of eight images in float64, epoch after epoch in the same order."""

    steps_per_epoch = EPOCH

    def __init__(self):
        noise = torch.Generator().manual_seed(1)
        x, y = torch.rand(8 * EPOCH, 2, 6, 6, generator=noise), torch.randint(0, 3, (8 * EPOCH,), generator=noise)
        self.batches = list(zip(x.double().split(8), y.split(8), strict=True))

    def after(self, step):
        return itertools.islice(itertools.cycle(self.batches), step, None)

    def once(self):
        return iter(self.batches)


class Top(torch.autograd.Function):
    """The published mask: a sort of |S|, the first (1 - k) n dropped; |S| gets G, k the sum of G (METHODS 1.3)."""

    @staticmethod
    def forward(ctx, size, k):
        order = size.flatten().sort().indices
        mask = size.new_ones(size.numel())
        mask[order[: size.numel() - math.ceil(float(k) * size.numel() * (1 - 1e-6))]] = 0
        return mask.view_as(size)

    @staticmethod
    def backward(ctx, grad):
        return grad, grad.sum()


class Published:
    """The three stages' network as plain tensors, and the step that trains it."""

    def __init__(self, model, stage, objective, masks=None):
        self.stage, self.objective, self.masks = stage, objective, masks
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.gamma, self.frozen = GAMMA, False
        norms = [name for name in self.state if name[:2] in ("1.", "4.") and name.endswith(("weight", "bias"))]
        trained = norms if stage == "prune" else [*norms, *SITES, "7.bias"]
        leaves = [self.state[name].requires_grad_() for name in trained]
        if stage == "prune":
            weights = {name: self.state[name] for name in SITES}
            self.scores = {
                name: (math.sqrt(6 / w[0].numel()) * w / w.abs().max()).requires_grad_() for name, w in weights.items()
            }
            least = ALPHA * KEEP
            share = (FIRST - least) / (1 - least)
            self.rates = {name: torch.tensor(math.log(share / (1 - share)), requires_grad=True) for name in SITES}
            leaves += [*self.scores.values(), *self.rates.values()]
        self.optimizer = torch.optim.SGD(leaves, lr=LR, momentum=MOMENTUM, weight_decay=DECAY)

    def quotas(self):
        least = ALPHA * KEEP
        return {name: least + (1 - least) * r.sigmoid() for name, r in self.rates.items()}

    def size_loss(self):
        sizes = {name: self.state[name].numel() for name in SITES}
        kept = sum(sizes[name] * k for name, k in self.quotas().items())
        return (kept / (KEEP * sum(sizes.values())) - 1).clamp(min=0)

    def weight(self, name):
        if self.stage == "prune":
            return self.state[name] * Top.apply(self.scores[name].abs(), self.quotas()[name])
        return self.state[name] * self.masks[name] if self.masks else self.state[name]

    def logits(self, x, train):
        for conv, norm in ((0, 1), (3, 4)):
            mean, var = self.state[f"{norm}.running_mean"], self.state[f"{norm}.running_var"]
            scale, shift = self.state[f"{norm}.weight"], self.state[f"{norm}.bias"]
            x = batch_norm(conv2d(x, self.weight(f"{conv}.weight")), mean, var, scale, shift, training=train).relu()
        return linear(x.flatten(1), self.weight("7.weight"), self.state["7.bias"])

    def attacked(self, x, y, noise):
        """Sign ascent from a start that may lie outside the box, in eval mode."""
        uniform = self.objective == "pgd-at"
        drawn = torch.empty_like(x)
        start = drawn.uniform_(-EPS, EPS, generator=noise) if uniform else 1e-3 * drawn.normal_(generator=noise)
        adv, clean = x + start, self.logits(x, train=False).detach()
        for _ in range(ATTACK_STEPS):
            adv = adv.detach().requires_grad_()
            out = self.logits(adv, train=False)
            loss = kl(clean, out).sum() if self.objective == "trades" else cross_entropy(out, y, reduction="sum")
            moved = adv.detach() + STEP * torch.autograd.grad(loss, adv)[0].sign()
            adv = torch.minimum(torch.maximum(moved, x - EPS), x + EPS).clamp(0, 1)
        return adv.detach()

    def loss(self, x, y, adv):
        if self.objective == "pgd-at":
            return cross_entropy(self.logits(adv, train=True), y)
        clean, out = self.logits(x, train=True), self.logits(adv, train=True)
        if self.objective == "trades":
            again = self.logits(x, train=True)
            return cross_entropy(clean, y) + BETA * kl(again, out).mean()
        p, q = clean.softmax(1), out.softmax(1)
        rows = torch.arange(len(y))
        others = q.clone()
        others[rows, y] = 0
        boosted = -q[rows, y].log() - (1.0001 - others.max(1).values + 1e-12).log()
        return boosted.mean() + BETA * (kl(clean, out) * (1 - p[rows, y])).mean()

    def step(self, index, x, y):
        epoch = index // EPOCH
        for group in self.optimizer.param_groups:
            group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / (STEPS // EPOCH)))
        with torch.no_grad():
            self.logits(x, train=True)  # for the log
        adv = self.attacked(x, y, generator(0, "fit", "attack", index))
        loss = self.loss(x, y, adv)
        if self.stage == "prune":
            loss = loss + self.gamma * self.size_loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.stage == "prune" and (index + 1) % EPOCH == 0:
            self.frozen = self.frozen or round(self.size_loss().item(), 4) == 0
            if not self.frozen:
                self.gamma += GAMMA
        return cross_entropy(self.logits(x, train=False), y).item()


def kl(p, q):
    """KL(softmax p || softmax q) of each row."""
    return (p.softmax(1) * (p.log_softmax(1) - q.log_softmax(1))).sum(1)


def objective(name):
    attack, threat = harp.PGD(ATTACK_STEPS, STEP / EPS, start_in_box=False), harp.Threat(eps=EPS)
    factory = {"pgd-at": harp.PGDAT, "trades": harp.TRADES, "mart": harp.MART}[name]
    beta = {} if name == "pgd-at" else {"beta": BETA}
    return factory(attack, threat, batch_norm="mixed", **beta)


def pruner_of(stage, model):
    sites = harp.find_sites(model)
    if stage == "pretrain":
        return harp.Pruner(sites), None
    if stage == "prune":
        return harp.Harp(
            sites, harp.Budget(KEEP), options=harp.HarpOptions(gamma=GAMMA, start_keep=FIRST), course=harp.Course(EPOCH)
        ), None
    noise = torch.Generator().manual_seed(2)
    masks = {site.name: torch.rand(site.param.shape, generator=noise) < 0.4 for site in sites}
    return harp.Masked(sites, harp.Masks(masks)), masks


@pytest.mark.parametrize("name", ["pgd-at", "trades", "mart"])
@pytest.mark.parametrize("stage", ["pretrain", "prune", "finetune"])
def test_fit_repeats_the_published_training(stage, name):
    model, data = network(), Batches()
    pruner, masks = pruner_of(stage, model)
    published = Published(model, stage, name, masks)
    seen = []

    def compare(moment):
        x, y = data.batches[(moment.step - 1) % EPOCH]
        expected = published.step(moment.step - 1, x, y)
        model.eval()
        found = cross_entropy(model(x), y).item()
        model.train()
        seen.append(abs(found - expected))

    harp.fit(
        model,
        data,
        objective=objective(name),
        optimizer=harp.sgd(model, pruner, lr=LR, momentum=MOMENTUM, weight_decay=DECAY),
        pruner=pruner,
        until=STEPS,
        schedule=SCHEDULES["cosine-epochs"],
        on=[compare],
    )

    assert len(seen) == STEPS
    assert max(seen) < 1e-6
    for key, value in model.state_dict().items():
        if "num_batches" not in key:
            expected = published.weight(key) if key in SITES else published.state[key]
            assert torch.allclose(value, expected, rtol=0, atol=1e-6), (key, float((value - expected).abs().max()))
    if stage == "prune":
        assert pruner.rates().tolist() == pytest.approx([float(k) for k in published.quotas().values()], abs=1e-6)
        assert pruner.learned.gamma == pytest.approx(published.gamma)
        assert published.gamma > GAMMA
