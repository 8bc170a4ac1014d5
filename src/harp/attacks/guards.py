"""What a foreign attack does to the process it runs in, undone; what it would only have logged, kept."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Torch's global generators begin at `seed` inside; they and the trace function are as before afterwards."""
    trace = sys.gettrace()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            yield
    finally:
        sys.settrace(trace)
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            # A CUDA that has not begun yet will begin at the last seed it was told; that is to be the caller's.
            torch.cuda.manual_seed_all(torch.initial_seed())


# What the package's warnings have in them -> the note they become.
NOTES = {
    "randomized defense": "randomized: the same images got different logits, which version 'rand' is made for",
    "probability distribution": "logits: what the network gives looks like probabilities; attacks need the logits",
    "dynamic defense": "dynamic: the network computes gradients while it answers, which may hide its weakness",
    "zero gradient": "gradients: some points begin with a gradient of 0, from which its search learns nothing",
    # Said here by whoever puts another loss in their place.
    "not possible to use": "",
}


class Heard:
    """A logger's three verbs: warnings are kept as notes, once each; all else is dropped."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        if text and text not in self.notes:
            self.notes.append(text)

    def warning(self, text: str) -> None:
        self.note(next((note for phrase, note in NOTES.items() if phrase in text), text))

    def info(self, text: str) -> None:
        """Dropped."""

    debug = info


def follows(model: nn.Module, x: Tensor) -> bool:
    """Whether autograd knows a way from the logits of the images back to them."""
    image = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        total = model(image).sum()
        if not total.requires_grad:
            return False
        return torch.autograd.grad(total, image, allow_unused=True)[0] is not None


class Sealed(nn.Module):
    """`model`, whose draws from torch's global generators leave these where they were."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
            logits: Tensor = self.model(x)
        return logits


@torch.no_grad()
def resealed(model: nn.Module, x: Tensor, seed: int, heard: Heard) -> nn.Module:
    """`model` itself, or `Sealed` where a pass leaves the generator in one state, whatever the state before it was.

    A search that draws from that generator would draw the same at each step. Other networks are not sealed: their noise
    has to be new at each pass. The generator is at `seed` afterwards.
    """
    states = []
    for start in (seed + 1, seed + 2):
        torch.manual_seed(start)
        model(x)
        states.append(torch.get_rng_state())
    torch.manual_seed(seed)
    if not torch.equal(*states):
        return model
    heard.note("randomness: the network sets torch's generator at each pass; that was kept from the attack's draws")
    return Sealed(model)
