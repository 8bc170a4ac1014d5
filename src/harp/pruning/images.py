"""The images of one call: a test loader in its own order, and the network's first look at those of training."""

from collections.abc import Iterable, Iterator
from itertools import islice

from torch import nn

from harp.attacks import PGD
from harp.data import Batch, Batches, batches_of
from harp.errors import HarpError
from harp.evaluation import correct, wilson
from harp.models import placed
from harp.threats import Threat

LOOKED_AT = 256  # training images that tell whether a network was trained; chance is told from 0 % with 40 already


class InOrder:
    """The examples of a loader in batches of one size, the last aside: as what is measured wants them (`Counted`).

    Raises `HarpError` for a loader whose batches are of other sizes, or that has none.
    """

    def __init__(self, loader: Batches | Iterable[Batch], model: nn.Module):
        self._batches = batches_of(loader, placed(model))
        sizes = [len(y) for _, y in self._batches.once()]
        self.batch_size, self._count = sizes[0], sum(sizes)
        if any(size != sizes[0] for size in sizes[:-1]) or sizes[-1] > sizes[0]:
            raise HarpError(
                f"the test loader's batches are of {min(sizes)} to {max(sizes)} images; expected one size, "
                "and at the end perhaps a smaller one"
            )

    def __len__(self) -> int:
        return self._count

    def once(self) -> Iterator[Batch]:
        """Every example once."""
        return self._batches.once()


def look(model: nn.Module, data: Batches, attack: PGD, threat: Threat, classes: int, seed: int) -> list[str]:
    """Why a network that pruning is to begin with does not look like a robustly trained one; [] where it does.

    Of some 256 training images it is to answer more rightly than by chance, as they are and under the attack that is
    trained against, each beyond the 95 % interval.
    """
    batches, count = [], 0
    for x, y in islice(data.after(0), data.steps_per_epoch):
        batches.append((x, y))
        count += len(y)
        if count >= LOOKED_AT:
            break
    rights = [correct(model, batches, one, threat, seed, "first look") for one in (None, attack)]
    clean, robust = (int(right.sum()) for right in rights)
    if wilson(clean, count)[0] <= 1 / classes:
        said = f"looks untrained: it is right about {clean} of {count} training images, and chance is one in {classes}"
        return [f"the network {said}; pruning keeps what a network has learned, so train it first, or load its weights"]
    if threat.eps and wilson(robust, count)[0] <= 1 / classes:
        said = f"of {count} training images it is right about {clean}, and about {robust} under PGD-{attack.steps}"
        known = "the method expects one that was trained adversarially, and from another much less is left"
        return [f"the network is not robust: {said} at {threat}, no better than chance; {known}"]
    return []
