from torch import nn

from harp.pruners import Hydra, Moment
from harp.sparsity import Budget, find_sites


def test_every_layer_keeps_the_same_share():
    model = nn.Sequential(nn.Linear(10, 40), nn.Linear(40, 10), nn.Linear(10, 20))
    pruner = Hydra(find_sites(model), Budget(0.1))
    assert pruner.settle().counts == {"0.weight": 40, "1.weight": 40, "2.weight": 20}
    pruner.push(Moment(0))
    assert [int(layer.get_parameter("weight").count_nonzero()) for layer in model] == [40, 40, 20]
    assert pruner.trainables().keys() == {"scores"}
