import math

import pytest
import torch
from torch import nn
from torch.nn.functional import unfold

from harp.attacks import PGD
from harp.data import Loader
from harp.errors import HarpError
from harp.objectives import Natural
from harp.pruners import MAD, Course, MADOptions, Moment, Scoring
from harp.pruners.mad import damage
from harp.sparsity import Budget, find_sites, find_units
from harp.threats import Threat
from harp.training import attacked, losses
from tests.pruners.networks import linear

DATA = [(torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(n)), torch.arange(8) % 3) for n in range(3)]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        *(nn.Conv2d(4, 4, 3, stride=2, groups=2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4, 3)),
    )


def scoring(model):
    data = Loader(DATA, "cpu")
    attack, threat = PGD(steps=2), Threat(eps=0.1)
    return Scoring(
        model,
        lambda: losses(model, Natural(), data, 0, "prune"),
        lambda: attacked(model, attack, threat, data, 0, "prune"),
    )


def ranked(saliency, keep, **options):
    model = linear([[1.0, -1.0], [0.5, 2.0]])
    pruner = MAD(find_sites(model), Budget(keep, floor=0.0), options=MADOptions(**options))
    pruner.saliency = {"weight": torch.tensor(saliency)}
    return pruner.settle()["weight"].int().tolist()


def test_the_example_of_the_dossier():
    """METHODS 2.4: A = ((1, .9), (.9, 4)) from two images, G = (2, 3)."""
    change = torch.tensor([[0.2, -0.5], [0.0, 0.4]])
    inputs = math.sqrt(2) * torch.tensor([[1.0, 0.9], [0.0, math.sqrt(3.19)]])
    slopes = torch.tensor([[math.sqrt(2), math.sqrt(3)]] * 2)
    found = damage(linear([[0.0, 0.0], [0.0, 0.0]]), change, inputs, slopes)
    torch.testing.assert_close(found, torch.tensor([[-0.05, 0.91], [0.0, 0.96]]))


def test_the_most_negative_go_first_or_those_nearest_to_zero():
    example = [[-0.05, 0.91], [0.0, 0.96]]
    assert ranked(example, 0.75) == [[0, 1], [1, 1]]
    assert ranked(example, 0.5) == [[0, 1], [0, 1]]
    assert ranked(example, 0.75, order="size") == [[1, 1], [0, 1]]
    assert ranked([[0.0, 0.0], [0.0, 0.0]], 0.5) == [[1, 1], [0, 0]]


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_has_the_patches_it_reads_as_inputs(groups):
    """Against A and G written out, patch by patch and group by group."""
    torch.manual_seed(1)
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=groups)
    images, change = torch.randn(5, 4, 6, 6), torch.randn_like(layer.weight)
    slopes = torch.randn(5, 6, 3, 3)
    expected, rows, places = [], 6 // groups, 9
    for group, part in enumerate(images.chunk(groups, 1)):
        patches = unfold(part, 3, stride=2, padding=1).transpose(1, 2).reshape(5 * places, -1)
        a = patches.T @ patches / len(patches) / places
        own = slice(group * rows, (group + 1) * rows)
        g = places**2 * slopes[:, own].square().mean((0, 2, 3))
        delta = change[own].flatten(1)
        expected.append((0.5 * g[:, None] * delta * (delta @ a)).view(change[own].shape))
    torch.testing.assert_close(damage(layer, change, images, slopes), torch.cat(expected))


def test_tokens_are_places_of_a_linear_layer():
    torch.manual_seed(1)
    tokens, slopes, change = torch.randn(5, 7, 3), torch.randn(5, 7, 2), torch.randn(2, 3)
    a = tokens.flatten(0, 1).T @ tokens.flatten(0, 1) / 35 / 7
    g = 49 * slopes.square().mean((0, 1))
    found = damage(nn.Linear(3, 2), change, tokens, slopes)
    torch.testing.assert_close(found, 0.5 * g[:, None] * change * (change @ a))


def test_soft_masks_fall_where_a_weight_does_damage_and_are_exactly_one_elsewhere():
    """One step of Adam is .1 wide: softplus(.5413 - .1) = .9380."""
    model = linear([[1.0, 1.0], [0.0, 0.0]])
    pruner = MAD(find_sites(model), Budget(0.5), options=MADOptions(mask_steps=1))
    x, y = torch.tensor([[1.0, -1.0]]), torch.tensor([0])  # the first input speaks for the class, the second against
    (mask,) = pruner.soft_masks(model, x, y)
    assert mask.tolist() == [[1.0, pytest.approx(0.9380, abs=1e-4)], [1.0, 1.0]]
    pruner.options = MADOptions(mask_steps=1, mask_lr=20.0)
    (mask,) = pruner.soft_masks(model, x, y)
    assert mask[0, 1].item() == pytest.approx(1e-4, rel=1e-3)
    assert model.weight.grad is None


def test_saliency_is_of_each_images_own_gradient_and_the_mean_over_batches():
    """A linear network: the gradients at the logits are probabilities less the label."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False)
    batches = [(torch.rand(4, 3), torch.tensor([0, 1, 1, 0])), (torch.rand(4, 3), torch.tensor([1, 1, 0, 0]))]
    pruner = MAD(find_sites(model), Budget(0.5))
    pruner.prepare(Scoring(model, lambda: iter(()), lambda: iter(batches)))
    expected = torch.zeros(2, 3)
    for x, y in batches:
        (mask,) = pruner.soft_masks(model, x, y)
        weight = model.weight.detach()
        slopes = (x @ (weight * mask).T).softmax(1) - nn.functional.one_hot(y, 2)
        change = weight - weight * mask
        expected += 0.5 * slopes.square().mean(0)[:, None] * change * (change @ (x.T @ x / 4)) / 2
    assert expected.any()
    torch.testing.assert_close(pruner.saliency["weight"], expected)


def test_a_pass_leaves_the_network_as_it_was_and_cuts_all_layers_by_one_ranking():
    ends = []
    for _ in range(2):
        model = network().train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        pruner = MAD(find_sites(model), Budget(0.3), options=MADOptions(mask_steps=3), course=Course(1))
        pruner.prepare(scoring(model))
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(param.grad is None for param in model.parameters())
        assert not any(module._forward_hooks for module in model.modules())
        pruner.push(Moment(0))
        masks = pruner.settle()
        assert masks.kept == round(0.3 * (36 + 72 + 12))
        for name, mask in masks.items():
            assert torch.equal(model.get_parameter(name), before[name] * mask)
        lowest = min(float(pruner.saliency[name][mask].min()) for name, mask in masks.items())
        cut = [float(pruner.saliency[name][~mask].max()) for name, mask in masks.items() if mask.sum() > 1]
        assert max(cut) <= lowest
        ends.append(pruner.state_dict())
    assert all(torch.equal(ends[0]["saliency"][name], saliency) for name, saliency in ends[1]["saliency"].items())
    model = network()
    fresh = MAD(find_sites(model), Budget(0.3))
    fresh.load_state_dict(ends[0])
    assert all(torch.equal(mask, ends[0]["chosen"][name]) for name, mask in fresh.settle().items())


def test_it_takes_no_step():
    assert MAD.steps(MADOptions(), Course(10, 100)) == 0


def test_a_wrapped_network_is_scored_under_its_own_names():
    model = network()
    pruner = MAD(find_sites(model), Budget(0.3), options=MADOptions(mask_steps=1))
    pruner.prepare(scoring(nn.DataParallel(model)))
    assert pruner.settle().kept == 36


def test_what_it_cannot_do_is_refused():
    model = network()
    with pytest.raises(HarpError, match="single weights"):
        MAD(find_units(model, torch.ones(1, 1, 4, 4), "channels"), Budget(0.5, "macs"))
    pruner = MAD(find_sites(model), Budget(0.5))
    with pytest.raises(HarpError, match="comes first"):
        pruner.push(Moment(0))
    with pytest.raises(HarpError, match="given no images"):
        pruner.prepare(Scoring(model, lambda: iter(())))
    other = nn.ModuleDict({"up": nn.ConvTranspose2d(1, 1, 2)})
    with pytest.raises(HarpError, match=r"up\.weight is a ConvTranspose2d's"):
        MAD(find_sites(other), Budget(0.5))
