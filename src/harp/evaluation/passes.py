"""An evaluation goes through its images once for each measure: they must be the same each time, in the same order."""

import hashlib

import torch
from torch import Tensor

from harp.errors import HarpError


def fingerprints(x: Tensor, y: Tensor) -> Tensor:
    """A number for each image with its label, int64 [n]: equal for equal pixels, dtype, shape and label alone."""
    images, labels = x.detach().cpu().contiguous(), y.detach().cpu()
    kind = f"{images.dtype} {tuple(images.shape[1:])}".encode()
    found = []
    for image, label in zip(images, labels.tolist(), strict=True):
        text = hashlib.sha256(kind + repr(label).encode())
        text.update(image.contiguous().view(-1).view(torch.uint8).numpy().data)
        found.append(int.from_bytes(text.digest()[:8], "little", signed=True))
    return torch.tensor(found, dtype=torch.int64)


class Passes:
    """The images as the first pass saw them; every later one must see the same."""

    def __init__(self) -> None:
        self._first: list[Tensor] = []

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self._first)

    def begin(self, prints: Tensor) -> None:
        """The next batch of the first pass has these fingerprints."""
        self._first.append(prints)

    def check(self, measure: str, index: int, prints: Tensor) -> None:
        """Raises `HarpError` where batch `index` of the pass for `measure` is not what it was, and says how."""
        if index >= len(self._first):
            raise HarpError(f"the pass for {measure} has more batches than the first, {len(self)}; {_WAY_OUT}")
        first = self._first[index]
        if torch.equal(first, prints):
            return
        where = f"batch {index} of the pass for {measure}"
        if len(first) != len(prints):
            raise HarpError(f"{where} has {len(prints)} images and had {len(first)} in the first pass; {_WAY_OUT}")
        known = torch.isin(prints, torch.cat(self._first))
        # A shuffled loader that drops its rest also shows some that it did not show before.
        if 2 * int(known.sum()) >= len(prints):
            raise HarpError(f"{where} has its images in another order than the first pass; {_WAY_OUT}")
        raise HarpError(f"{where} has other pixels or labels than the first pass; {_WAY_OUT}")

    def end(self, measure: str, count: int) -> None:
        """Raises `HarpError` where the pass for `measure` had fewer batches than the first."""
        if count < len(self._first):
            raise HarpError(
                f"the pass for {measure} ended after {count} of the first's {len(self)} batches; {_WAY_OUT}"
            )


_WAY_OUT = "expected the same images in the same order each time: no shuffling, no random augmentation, or a list"
