import pytest
import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.pruners import Masked, Pruner, Reparam
from harp.sparsity import Masks, find_sites


class Doubled(Reparam):
    """Effective weight 2 w + v, so the gradients of w and v are 2 g and g."""

    def __init__(self, sites):
        super().__init__(sites)
        self.w = nn.Parameter(torch.full_like(sites[0].param, 3.0))
        self.v = nn.Parameter(torch.full_like(sites[0].param, 1.0))

    def trainables(self):
        return {"weights": [self.w, self.v]}

    def weights(self) -> list[Tensor]:
        return [2 * self.w + self.v]


def linear(rows):
    model = nn.Linear(len(rows[0]), len(rows), bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(rows))
    return model


def test_a_pruner_that_prunes_nothing_changes_nothing():
    model = linear([[1.0, 2.0]])
    pruner = Pruner(find_sites(model))
    pruner.push(0)
    model.weight.grad = torch.tensor([[5.0, 6.0]])
    pruner.pull()
    assert model.weight.tolist() == [[1, 2]]
    assert model.weight.grad.tolist() == [[5, 6]]
    assert pruner.penalty() == 0
    assert pruner.trainables()["weights"][0] is model.weight
    with pytest.raises(HarpError, match="prunes nothing"):
        pruner.settle()


def test_masked_weights_are_exactly_zero_whatever_the_optimiser_adds():
    model = linear([[-1.0, 2.0], [3.0, -4.0]])
    mask = torch.tensor([[False, True], [True, False]])
    pruner = Masked(find_sites(model), Masks({"weight": mask}))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)
    pruner.push(0)
    for step in range(1, 4):
        optimiser.zero_grad()
        model(torch.ones(1, 2)).pow(2).sum().backward()
        pruner.pull()
        optimiser.step()
        pruner.push(step)
        zeros = model.weight.detach()[~mask]
        assert zeros.eq(0).all()
        assert not torch.signbit(zeros).any()
    assert model.weight.detach()[mask].ne(0).all()
    assert torch.equal(pruner.settle()["weight"], mask)


@pytest.mark.parametrize("masks", [{"other": (1, 2)}, {"weight": (2, 2)}])
def test_masks_of_another_model_are_refused(masks):
    model = linear([[1.0, 2.0]])
    with pytest.raises(HarpError, match="not those of this model"):
        Masked(find_sites(model), Masks({name: torch.ones(shape, dtype=torch.bool) for name, shape in masks.items()}))


def test_push_writes_the_effective_weights_and_pull_carries_their_gradient():
    model = linear([[0.0, 0.0]])
    pruner = Doubled(find_sites(model))
    pruner.push(0)
    assert model.weight.tolist() == [[7, 7]]
    model(torch.tensor([[10.0, 20.0]])).sum().backward()
    pruner.pull()
    assert pruner.w.grad.tolist() == [[20, 40]]
    assert pruner.v.grad.tolist() == [[10, 20]]


def test_several_backwards_make_one_pull():
    model = linear([[0.0]])
    pruner = Doubled(find_sites(model))
    pruner.push(0)
    for value in (1.0, 2.0):
        model(torch.tensor([[value]])).sum().backward()
    pruner.pull()
    assert pruner.v.grad.tolist() == [[3]]


def test_a_push_between_forward_and_backward_is_refused_by_autograd():
    model = nn.Sequential(linear([[1.0]]), linear([[1.0]]))
    pruner = Doubled((find_sites(model)[1],))
    pruner.push(0)
    loss = model(torch.ones(1, 1)).sum()
    pruner.push(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_site_the_forward_did_not_use_is_left_out():
    model = nn.ModuleDict({"used": linear([[1.0]]), "unused": linear([[1.0]])})
    pruner = Doubled((find_sites(model)[1],))
    pruner.push(0)
    model["used"](torch.ones(1, 1)).sum().backward()
    pruner.pull()
    assert pruner.w.grad is None
