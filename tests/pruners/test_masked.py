import pytest
import torch

from harp.errors import HarpError
from harp.pruners import Masked, Moment
from harp.sparsity import Masks, find_sites
from tests.pruners.networks import linear

KEPT = torch.tensor([[True, True, False]])


def test_masked_weights_are_exactly_zero_whatever_the_optimizer_adds():
    model = linear([[-1.0, 2.0], [3.0, -4.0]])
    mask = torch.tensor([[False, True], [True, False]])
    pruner = Masked(find_sites(model), Masks({"weight": mask}))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)
    pruner.push(Moment(0))
    for step in range(1, 4):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).pow(2).sum().backward()
        pruner.pull()
        optimizer.step()
        pruner.push(Moment(step))
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


def masked(pruned=7.0):
    """Gradients 3 and 4 at the weights that stay, `pruned` at the one that does not, when `ask` is the loss."""
    model = linear([[1.0, 2.0, 0.0]])
    inputs = torch.tensor([[3.0, 4.0, pruned]])
    return model, Masked(find_sites(model), Masks({"weight": KEPT})), lambda: model(inputs).sum()


def test_hooks_leave_no_gradient_at_pruned_weights_after_any_backward_pass():
    model, pruner, ask = masked()
    hooks = pruner.hooks()
    ask().backward()
    assert model.weight.grad.tolist() == [[3, 4, 0]]
    ask().backward()
    assert model.weight.grad.tolist() == [[6, 8, 0]]
    for hook in hooks:
        hook.remove()
    ask().backward()
    assert model.weight.grad.tolist() == [[9, 12, 7]]


def test_gradients_that_are_no_numbers_do_not_count_where_nothing_is_left():
    model, pruner, ask = masked(torch.inf)
    pruner.hooks()
    ask().backward()
    assert model.weight.grad.tolist() == [[3, 4, 0]]


def test_a_frozen_weight_has_a_hook_for_when_it_thaws():
    model, pruner, ask = masked()
    model.weight.requires_grad_(False)
    pruner.hooks()
    assert not model.weight.requires_grad
    model.weight.requires_grad_(True)
    ask().backward()
    assert model.weight.grad.tolist() == [[3, 4, 0]]


def test_a_state_of_another_network_is_refused():
    _, pruner, _ = masked()
    with pytest.raises(HarpError, match=r"another network: it has no weight of shape \[1, 3\]"):
        pruner.load_state_dict({"masks": {"weight": torch.ones(1, 2, dtype=torch.bool)}})


def test_a_model_that_moved_to_another_device_is_refused():
    _, pruner, _ = masked()
    pruner.masks = {"weight": KEPT.to("meta")}  # any other device will do
    with pytest.raises(HarpError, match="weight was moved to cpu after the pruner was made on meta"):
        pruner.push(Moment(0))
