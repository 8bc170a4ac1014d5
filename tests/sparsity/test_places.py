import copy
import pickle

import torch
from torch import nn

from harp.sparsity.places import Place, place_of


def network():
    return nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 1)))


def test_a_place_holds_the_very_parameter_that_stands_there():
    model = network()
    place = place_of(model, "1.0.weight")
    assert place.own == "weight"
    assert place.holds(model[1][0].weight)
    assert not place.holds(model[0].weight)
    assert not place.holds(nn.Parameter(model[1][0].weight.detach()))


def test_changed_values_change_no_place_and_a_new_parameter_does():
    model = network()
    place, old = place_of(model, "0.weight"), model[0].weight
    model.load_state_dict(network().state_dict())
    model.to(torch.float64)
    assert place.holds(old)
    model.load_state_dict(network().state_dict(), assign=True)
    assert not place.holds(old)


def test_a_network_that_is_gone_holds_nothing():
    model = network()
    place, weight = place_of(model, "0.weight"), model[0].weight
    del model
    assert not place.holds(weight)
    assert not copy.deepcopy(place).holds(weight)


def pickled(things):
    return pickle.loads(pickle.dumps(things))  # noqa: S301


def test_copies_hold_the_copied_parameter_where_the_network_is_copied_along():
    for copied in (copy.deepcopy, pickled):
        model = network()
        weight, place = model[1][0].weight, place_of(model, "1.0.weight")
        twin, moved, second = copied((model, weight, place))
        assert moved is twin[1][0].weight
        assert second.holds(moved)
        assert not second.holds(weight)
        # Whichever comes first.
        second, moved, twin = copied((place, weight, model))
        assert second.holds(twin[1][0].weight)
        # Alone it is a copy of no network.
        moved, second = copied((weight, place))
        assert not second.holds(moved)
        assert not second.holds(weight)


def test_a_network_that_is_a_layer_itself_is_a_place():
    layer = nn.Linear(2, 2)
    assert Place(layer, "weight").holds(layer.weight)
    assert place_of(layer, "weight").holds(layer.weight)
