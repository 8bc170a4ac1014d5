"""Whether silenced and removed channels give the same logits, computed without the code that is tested."""

import copy

import torch

from harp.sparsity import remove


def half(groups, seed=0):
    """A mask for every group that keeps a random half of its units, at least one."""
    draws = torch.Generator().manual_seed(seed)
    return {g.name: torch.randperm(g.size, generator=draws) < max(1, g.size // 2) for g in groups}


def silence(model, groups, keep):
    """A copy with zeros in the consumers' inputs, entry by entry."""
    model = copy.deepcopy(model)
    tensors = model.state_dict()
    for group in groups:
        for part in group.consumers:
            for index, unit in enumerate(part.owner.tolist()):
                if unit >= 0 and not keep[group.name][unit]:
                    tensors[part.name].select(part.axis, index).zero_()
    return model


@torch.no_grad()
def agree(model, groups, keep, images, tolerance=1e-5, modes=(False, True)):
    """Equal logits, relative to the largest, in eval and in train mode."""
    for training in modes:
        silent = silence(model, groups, keep).train(training)
        smaller = remove(model, groups, keep).train(training)
        expected, found = silent(images), smaller(images)
        if not (expected - found).abs().max() <= tolerance * expected.abs().max():
            return False
    return True
