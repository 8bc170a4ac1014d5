import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.models import Logits, load_weights


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def under(prefix):
    return {prefix + name: value for name, value in network(1).state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "module.model."])
@pytest.mark.parametrize("wrap", [lambda model: model, Logits, nn.DataParallel], ids=["plain", "logits", "parallel"])
def test_names_that_a_wrapper_made_longer_are_the_networks(prefix, wrap):
    model = wrap(network(0))
    load_weights(model, under(prefix), "a file")
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), network(1).state_dict().values(), strict=True)
    )


def test_what_averaging_counts_beside_the_network_is_passed_over():
    averaged = torch.optim.swa_utils.AveragedModel(network(1))
    model = network(0)
    load_weights(model, averaged.state_dict(), "a file")
    assert torch.equal(model[0].weight, network(1)[0].weight)


def test_names_that_differ_in_more_are_refused():
    model = network(0)
    before = model[0].weight.clone()
    other = under("module.")
    other["module.2.weight"] = other.pop("module.0.weight")
    with pytest.raises(HarpError, match="holds the weights of another model"):
        load_weights(model, other, "a file")
    with pytest.raises(HarpError, match="holds the weights of another model"):
        load_weights(model, under("net."), "a file")
    twice = under("module.") | under("model.")
    with pytest.raises(HarpError, match="holds the weights of another model"):
        load_weights(model, twice, "a file")
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_weights_of_another_kind_of_number_are_refused_by_name(dtype):
    model = network(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {**under(""), "1.running_var": torch.ones(3).to(dtype)}
    with pytest.raises(
        HarpError, match=r"^a file: 1.running_var holds \w+ numbers, which are no float32 ones; expected"
    ):
        load_weights(model, state, "a file")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_rounded(dtype):
    model = network(0)
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in under("").items()}
    load_weights(model, state, "a file")
    assert torch.equal(model[0].weight, state["0.weight"].float())


@pytest.mark.parametrize(
    ("count", "taken"),
    [
        (torch.tensor(7), True),
        (torch.tensor(7, dtype=torch.int32), True),
        (torch.tensor(7.0, dtype=torch.float16), True),
        (torch.tensor(7.5), False),
        (torch.tensor(True), False),
        (torch.tensor(7 + 0j), False),
        (torch.tensor(torch.inf), False),
    ],
)
def test_counts_stay_the_numbers_they_are(count, taken):
    model, state = network(0), {**under(""), "1.num_batches_tracked": count}
    if taken:
        load_weights(model, state, "a file")
        assert model[1].num_batches_tracked.item() == 7
    else:
        with pytest.raises(HarpError, match=r"^a file: 1.num_batches_tracked holds "):
            load_weights(model, state, "a file")
