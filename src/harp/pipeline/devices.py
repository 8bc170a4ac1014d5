"""The device that a recipe names, tried before any work begins."""

import torch

from harp.errors import HarpError


def find_device(name: str) -> torch.device:
    """The device called `name`, for auto a GPU where there is one; raises `HarpError` where it cannot compute."""
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
