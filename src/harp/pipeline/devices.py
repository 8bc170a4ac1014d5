"""The device that a recipe names, tried before any work begins."""

import torch

from harp.errors import HarpError
from harp.ranks import ALONE, Ranks


def find_device(name: str, ranks: Ranks = ALONE) -> torch.device:
    """The device called `name`, for auto a GPU where there is one; raises `HarpError` where it cannot compute.

    Of several `ranks` on a machine each has a card of its own, which `auto` and `cuda` mean.
    """
    if ranks.size > 1 and torch.cuda.is_available() and name in ("auto", "cuda"):
        cards = torch.cuda.device_count()
        if ranks.local >= cards:
            raise HarpError(f"device: {ranks.local + 1} processes on this machine, and {cards} cards; expected no more")
        return torch.device("cuda", ranks.local)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # A device without numbers, such as meta, gives none back.
        there = torch.ones(1, device=device).add(1).item() == 2
    # What torch raises depends on the kind of device and on how it was built.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise HarpError(f"device: {name!r} is not to be had here: {reason}") from None
    if not there:
        raise HarpError(f"device: {name!r} does not compute: 1 + 1 is not 2 there")
    return device
