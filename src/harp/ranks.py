"""Processes that work on one thing together: who each of them is, what they agree on, and who of them writes files."""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from harp.errors import HarpError
from harp.files import writes

# While one process measures or writes the others wait, maybe for hours; that one has died is torchrun's to see.
PATIENCE = timedelta(days=7)

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """One process of `size` that train one network on equal parts of each batch; `rank` counts them from 0.

    `local` is its number on its machine, by which it takes a card. What these methods do is done by all ranks together,
    each calling the same ones in the same order; alone they do nothing. Gradients and sums are equal on all ranks, bit
    for bit: each is computed once and passed on.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    @property
    def part(self) -> tuple[int, int]:
        """Which of how many equal parts of each batch is this process's."""
        return self.rank, self.size

    def wait(self) -> None:
        """All ranks have come as far as this."""
        if self.size > 1:
            self._collected(None)

    @torch.no_grad()
    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of all ranks' tensors of one shape, in the same memory layout."""
        if self.size == 1:
            return tensor
        # Dense and without gaps, whatever its strides, or the backend would copy or refuse it.
        total = tensor.detach().clone(memory_format=torch.preserve_format)
        dist.all_reduce(total)
        return total / self.size

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Each of the tensors, in place, is the mean of all ranks'."""
        groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors if self.size > 1 else ():
            groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for group in groups.values():
            flat = self.mean(torch.cat([tensor.reshape(-1) for tensor in group]))
            for tensor, part in zip(group, torch.split(flat, [tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    @torch.no_grad()
    def joined(self, tensor: Tensor) -> Tensor:
        """All ranks' tensors of one shape after one another, [size * n, ...] for [n, ...]."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def told(self, make: Callable[[], T]) -> T:
        """What the first rank makes, on all of them; what it refuses (`HarpError`) is refused by all."""
        if self.size == 1:
            return make()
        made: list[Any] = [None, None]
        if self.first:
            try:
                made[0] = make()
            except HarpError as error:
                made[1] = error
        dist.broadcast_object_list(made, src=0)
        if made[1] is not None:
            raise made[1]
        found: T = made[0]
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one rank refuses inside (`HarpError`) is refused by all, in the words of the first to do so.

        Nothing inside may wait for others.
        """
        refused: HarpError | None = None
        try:
            yield
        except HarpError as error:
            if self.size == 1:
                raise
            refused = error
        if self.size == 1:
            return
        for other in self._collected(refused):
            if other is not None:
                raise other

    def same(self, what: str, digest: str) -> None:
        """Raises `HarpError` on all ranks where `what`, by its digest, is not the same on all of them."""
        if self.size == 1:
            return
        found = self._collected(digest)
        if other := [rank for rank, one in enumerate(found) if one != found[0]]:
            raise HarpError(
                f"{what} of rank {other[0]} is not that of rank 0: they have drifted apart; begin from the last "
                "checkpoint, with the same versions and kinds of processor on all ranks"
            )

    def _collected(self, value: T) -> list[T]:
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found


ALONE = Ranks()


_joined: list[Ranks] = [ALONE]


def joined() -> Ranks:
    """Those that this process has joined, of which the first alone writes files."""
    return _joined[-1]


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process works without the others, who wait for it."""
    _joined.append(ALONE)
    try:
        yield
    finally:
        _joined.pop()


def of_group() -> Ranks:
    """The ranks of torch's default process group; raises `HarpError` where there is none."""
    if not (dist.is_available() and dist.is_initialized()):
        raise HarpError("there is no process group; call torch.distributed.init_process_group, or train alone")
    return Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", 0)))


def grouped() -> bool:
    """Whether this process is one of several in torch's default process group."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def launched(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes `torchrun` started together with this one; 1 without it. Raises `HarpError` for no number."""
    size = environment.get("WORLD_SIZE", "1")
    if not size.isdecimal() or int(size) < 1:
        raise HarpError(f"WORLD_SIZE is {size!r}; expected the number of processes, as torchrun sets it")
    # Slurm and MPI set some of these, too, and a single process is then no group.
    return int(size) if "MASTER_ADDR" in environment and "RANK" in environment else 1


@contextmanager
def joining() -> Iterator[Ranks]:
    """Inside, this process is one of those that `torchrun` started: NCCL between cards, gloo between processors."""
    if launched() == 1 or dist.is_initialized():
        yield joined()
        return
    local = int(os.environ.get("LOCAL_RANK", 0))
    cards = torch.cuda.is_available()
    if cards:
        torch.cuda.set_device(local % torch.cuda.device_count())
    # Imported with a group there, its functions keep it as a default, and gloo's threads outlive the group and, at
    # times, the interpreter: the process then aborts at its end.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("cpu:gloo,cuda:nccl" if cards else "gloo", timeout=PATIENCE)
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), local)
    _joined.append(ranks)
    try:
        with writes(ranks.first):
            yield ranks
    finally:
        _joined.pop()
        dist.destroy_process_group()
