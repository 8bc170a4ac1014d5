"""`harp.prune`: from a trained network to a small one with its evaluation."""

import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Unpack

from torch import nn

from harp.ambient import pinned
from harp.data import Batch, Batches, batches_of
from harp.errors import HarpError
from harp.models import placed
from harp.pruners import SearchWarning
from harp.pruning.asked import PruneOptions, check_options, recipe_of
from harp.pruning.found import Pruned
from harp.pruning.images import InOrder
from harp.pruning.job import Job, display_of
from harp.ranks import grouped
from harp.runs import Run


@pinned()
def prune(
    model: nn.Module,
    loader: Batches | Iterable[Batch],
    keep: float = 0.01,
    *,
    test: Batches | Iterable[Batch],
    eps: float | str = "8/255",
    method: str = "harp",
    **options: Unpack[PruneOptions],
) -> Pruned:
    """A copy of `model` pruned to the share `keep`, fine-tuned and evaluated; `model` itself stays as it is.

    `loader` and `test` give batches (x, y), such as a `DataLoader`: x float32 [n, c, h, w] in [0, 1] or uint8, y
    integer [n]; `test` always in the same order. `eps` is the size of the perturbation in pixels of [0, 1], a number or
    a fraction as text. `method` is one that begins with a dense network (`harp list methods`). All else is
    `PruneOptions`; their defaults are the paper's (HARP, ICLR 2023), which are a day's work for a ResNet-18 on a GPU.

    The network should be trained, and robustly; one that does not look so is told by a `SearchWarning` at once, and in
    the notes. With weights the result is of the same class, pruned weights being 0; with channels it is smaller. Where
    no images are `held` out, the last epoch is kept: test images select nothing. With a `folder` the same call goes on
    where it was killed, and only reads once it is finished; that is exact where the loader's order is, and the training
    images are taken to be the same ones.

    Raises `HarpError` for options or values that there are not, for a method that trains from scratch, for a budget
    that cannot be met, for images outside [0, 1], in a process group, and for a folder with the files of another call.
    """
    check_options(options)
    if grouped():
        raise HarpError("harp.prune works in one process; for several there are `torchrun -m harp run` and harp.fit")
    recipe, folder = recipe_of(keep, eps, method, options), options.get("folder")
    held = options.get("held")
    with tempfile.TemporaryDirectory() as place:
        run = Run(Path(folder) if folder is not None else Path(place))
        run.claim()
        try:
            job = Job(
                recipe,
                model,
                batches_of(loader, placed(model)),
                InOrder(test, model),
                None if held is None else InOrder(held, model),
                run.folder,
                display_of(options.get("progress", True)),
            )
            for note in job.begun():
                warnings.warn(SearchWarning(note), stacklevel=3)
            return job.carried_out()
        finally:
            run.release()
