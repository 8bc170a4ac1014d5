"""What a foreign attack does to the process it runs in, undone; what it would only have logged, kept."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
