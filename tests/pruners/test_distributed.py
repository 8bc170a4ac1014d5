"""A pruner attached in somebody's own DistributedDataParallel loop."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from harp.errors import HarpError
from harp.pruners import Course, Harp, Moment
from harp.runs import tree_digest
from harp.sparsity import Budget, find_sites
from harp.training import sgd
from tests.ranked import ranked

X = torch.rand(16, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 3


def network(rank):
    torch.manual_seed(rank)  # each process begins with other weights, which DDP makes the first one's
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def steps(ranks, model, pruner):
    optimizer = sgd(model, pruner, lr=0.1)
    pruner.attach(optimizer)
    part = slice(ranks.rank * 8, ranks.rank * 8 + 8)
    for _ in range(5):
        optimizer.zero_grad()
        cross_entropy(model(X[part]), Y[part]).backward()
        optimizer.step()
    pruner.settle()
    return tree_digest({"model": dict(model.module.state_dict()), "pruner": pruner.state_dict()})


def loops(ranks):
    model = DistributedDataParallel(network(ranks.rank))
    after = steps(ranks, model, Harp(find_sites(model.module), Budget(0.3), course=Course(5, 5)))
    early = network(ranks.rank)
    pruner = Harp(find_sites(early), Budget(0.3), course=Course(5, 5))
    DistributedDataParallel(early)
    try:
        pruner.push(Moment(0))
    except HarpError as error:
        return after, str(error)
    return after, None


def test_in_ddp_all_ranks_prune_alike_and_a_pruner_from_before_the_broadcast_is_refused(tmp_path):
    (first, fine), (second, refusal) = ranked(2, loops, tmp_path)
    assert first == second
    assert fine is None  # its weights are those that the others were given
    assert refusal is not None
    assert "0.weight" in refusal
