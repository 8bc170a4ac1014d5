"""Networks that are no function of the image, each found out; honest ones that only look like them, left in peace."""

import torch
from torch import nn

from harp.evaluation.doubts import Evidence, examine
from harp.threats import Threat
from tests.attacks.linear import images, linear

X = images(16)
Y = linear()(X).argmax(1)
STEADY = {"batch-dependence", "batch-size", "moving-gradients", "generator-reset", "changing-state"}


class Changed(nn.Module):
    """What `change` makes of a linear network, its images and the network's own dictionary."""

    def __init__(self, change):
        super().__init__()
        self.model, self.change, self.own = linear(), change, {}

    def forward(self, x):
        return self.change(self.model, x, self.own)


def raised(change, **options):
    return STEADY & {doubt.name for doubt in examine(Changed(change), X, Y, Threat(eps=0.01), Evidence(**options))}


def alone(model, x, own):
    return model(x) if len(x) > 1 else model(x).flip(1)


def many(model, x, own):
    return model(x) if len(x) <= 16 else model(x).flip(1)


def sociable(model, x, own):
    if len(x) == 1:
        raise ValueError("Expected more than 1 value per channel when training")
    return model(x)


def moving(model, x, own):
    logits = model(x)
    if not x.requires_grad:
        return logits
    own["queries"] = own.get("queries", 0) + 1
    led = model(x * (own["queries"] % 3))
    return logits.detach() + led - led.detach()


def watching(model, x, own):
    return model(x.flip(-1) if x.requires_grad else x)


def resetting(model, x, own):
    torch.manual_seed(0)
    return model(x)


def remembering(model, x, own):
    known = own.setdefault("known", x.detach()[:0])
    apart = (x.detach()[:, None] - known[None]).flatten(2).abs().amax(2)
    old = apart.amin(1) <= 0.0101 if len(known) else torch.zeros(len(x), dtype=torch.bool)
    own["known"] = torch.cat([known, x.detach()[~old]])
    if not old.any():
        return model(x)
    near = torch.where(old[:, None, None, None], known[apart.argmin(1)], x)
    return model(near + (x - near) / 3)


def counting(model, x, own):
    own["queries"], own["last"] = own.get("queries", 0) + 1, x.detach()
    return model(x)


def caching(model, x, own):
    return model(x) + own.setdefault(len(x), torch.zeros(len(x), 1))


def drawing(model, x, own):
    torch.rand(1)
    return model(x)


def test_who_answers_one_image_otherwise_than_many_is_found_out():
    assert raised(alone) == {"batch-size"}
    assert raised(many) == {"batch-size"}
    assert raised(sociable) == {"batch-size"}


def test_gradients_that_move_are_found_out():
    assert raised(moving) == {"moving-gradients"}
    assert raised(watching) == {"moving-gradients"}


def test_a_generator_that_is_set_is_found_out():
    assert raised(resetting) == {"generator-reset"}


def test_a_memory_is_found_out():
    assert "changing-state" in raised(remembering)


def test_counters_caches_and_draws_are_no_reason_for_doubt():
    assert raised(counting) == raised(caching) == raised(drawing) == set()


def test_modes_of_references_are_left_as_they_were():
    reference = linear().train()
    assert raised(counting, references=[reference]) == set()
    assert reference.training
    assert all(parameter.requires_grad for parameter in reference.parameters())
