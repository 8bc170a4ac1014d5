import faulthandler
import importlib
import multiprocessing
from typing import cast

import torch
import torch.distributed
from torch import nn

import harp
from harp.attacks import PGD
from harp.randomness import generator
from harp.threats import Threat
from harp.wrappers import alone, unwrapped


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def test_the_network_itself_comes_out_of_every_wrapper():
    model = network()
    compiled = cast(nn.Module, torch.compile(model, backend="eager"))
    assert unwrapped(model) is model
    assert unwrapped(nn.DataParallel(model)) is model
    assert unwrapped(compiled) is model
    assert unwrapped(nn.DataParallel(compiled)) is model
    holder = nn.Sequential(nn.DataParallel(model))
    assert unwrapped(holder) is holder


def test_sites_and_shares_are_named_as_in_the_network():
    for wrapped in (nn.DataParallel(network()), cast(nn.Module, torch.compile(network(), backend="eager"))):
        assert [site.name for site in harp.find_sites(wrapped)] == ["1.weight"]
        assert harp.trace_macs(wrapped, torch.ones(1, 1, 2, 2)) == {"1.weight": 12}


def test_an_evaluation_takes_a_wrapped_network_for_the_network():
    model, threat = network(), Threat(eps=0.1)
    x, y = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    plain, wrapped = (
        harp.evaluate(net, [(x, y)], {"pgd": PGD(steps=2)}, threat) for net in (model, nn.DataParallel(model))
    )
    assert all(torch.equal(plain.flags[name], wrapped.flags[name]) for name in plain.flags)


def test_attacks_go_around_the_wrapper_that_counts_backward_passes(tmp_path):
    """A second forward pass without a backward one to the parameters is an error inside of it."""
    # In a process of its own: a group of processes is state of the whole process, and its threads outlive it.
    process = multiprocessing.get_context("spawn").Process(target=attack_in_a_group, args=(tmp_path / "store",))
    process.start()
    process.join()
    assert process.exitcode == 0


def attack_in_a_group(path):
    faulthandler.dump_traceback_later(100, exit=True)
    # As `harp.ranks.joining` does, and for its reason: loaded later it keeps the group, whose threads abort at the end.
    importlib.import_module("torch.distributed.nn.functional")
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=0, world_size=1)
    attack_inside_of_it()  # a function, for its wrapper must be gone before the group: README, several processes
    torch.distributed.destroy_process_group()


def attack_inside_of_it():
    model = network()
    wrapped = nn.parallel.DistributedDataParallel(model)
    assert alone(wrapped) is model
    assert alone(model) is model
    x, y, threat = torch.full((3, 1, 2, 2), 0.5), torch.arange(3), Threat(eps=0.1)
    for _ in range(2):
        adv = PGD(steps=3)(wrapped, x, y, threat, generator(0, "attack"))
        assert torch.equal(adv, PGD(steps=3)(model, x, y, threat, generator(0, "attack")))
        nn.functional.cross_entropy(wrapped(adv), y).backward()
