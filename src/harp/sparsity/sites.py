"""The prunable parameters of a module."""

from dataclasses import dataclass

from torch import nn

from harp.errors import HarpError

PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True, eq=False)
class Site:
    """One prunable parameter: its name as in `state_dict`, and which axes hold its outputs and inputs."""

    name: str
    param: nn.Parameter
    out_axis: int = 0
    in_axis: int = 1

    @property
    def size(self) -> int:
        """The number of weights."""
        return self.param.numel()


Sites = tuple[Site, ...]


def find_sites(model: nn.Module) -> Sites:
    """The weights of every Conv1d, Conv2d, Conv3d and Linear, in definition order, a tied weight once.

    The first convolution, 1x1 shortcuts and the classifier are sites like all others; biases and normalisation
    layers are not (METHODS 1.5). Raises `HarpError` where there is nothing to prune, or a weight is parametrised.
    """
    found: dict[int, Site] = {}
    for path, module in model.named_modules():
        if isinstance(module, PRUNABLE):
            weight = module._parameters.get("weight")
            if weight is None:
                raise HarpError(f"{path}.weight is parametrised; fold it first (torch.nn.utils.parametrize)")
            found.setdefault(id(weight), Site(f"{path}.weight" if path else "weight", weight))
    if not found:
        raise HarpError(f"{type(model).__name__} has no convolution or linear layer to prune")
    return tuple(found.values())
