"""All checks on one sample."""

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from harp.ambient import precise, usable
from harp.attacks import Attack
from harp.errors import HarpError
from harp.evaluation.doubts.base import DOUBTS, Doubt
from harp.evaluation.doubts.sample import Sample
from harp.evaluation.expected import single, within
from harp.evaluation.inputs import check_images, check_labels
from harp.evaluation.steadiness import Untouched, accompanied
from harp.models import classes_of
from harp.modes import evaluating, frozen
from harp.randomness import Keyed, seed_of
from harp.threats import Threat
from harp.wrappers import unwrapped


@dataclass(frozen=True)
class Evidence:
    """What is known of a network beside a sample of images, as far as somebody knows it.

    `flags` are an evaluation's (measure -> bool [N], true where right), `places` (int64 [n]; None: 0 to n - 1) the
    sample's rows in them; what an attack never tried, since another had won, may be flagged either way. Attacks in
    `gradient_free` must not win over the others, nor must `black_box`, which is run (None: 200 random corners).
    `references` are other networks for the same classes: the dense one, or the one without its defence; `untouched` is
    the network before the evaluation (None: before this).
    """

    flags: Mapping[str, Tensor] = field(default_factory=dict)
    places: Tensor | None = None
    gradient_free: Collection[str] = ("square",)
    black_box: Attack | None = None
    references: Collection[nn.Module] = ()
    untouched: Untouched | None = None


@precise()
def examine(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    evidence: Evidence | None = None,
    *,
    seed: int = 0,
    batch: int | None = None,
) -> list[Doubt]:
    """The doubts that `model` raises on a sample of images, in the order of `DOUBTS`; none for an honest network.

    `x` float [n, ...] in the threat's box on the model's device, `y` int64 [n]; 128 points are a good sample. Longer
    PGD must not win over all attacks in the evidence's flags, which without flags is not asked; nor must images made
    against its references.

    Random numbers come from `seed` and the sample's places; torch's global generator, the model's modes and its
    gradients are left as they were. At most 1,200 passes a point, forward and backward counted apart, without those of
    a black box and of references (82 each); `batch` points at a time (None: all). AutoAttack takes some 10,000.

    Raises `HarpError` where images, labels, logits or flags do not fit each other or the threat.
    """
    known = evidence or Evidence()
    model, x, y = unwrapped(model), usable(x), usable(y)
    places = torch.arange(len(x)) if known.places is None else known.places.cpu()
    check_images(x, threat)
    _check_flags(known.flags, places, len(x))
    untouched = known.untouched or Untouched(model)
    with ExitStack() as stack:
        for network in (model, *known.references):
            stack.enter_context(evaluating(network))
            stack.enter_context(frozen(network))
        stack.enter_context(torch.random.fork_rng([x.device] if x.device.type == "cuda" else []))
        torch.manual_seed(seed_of(seed, "doubts"))
        asked = within(model, lambda network: accompanied(network, x))
        others = [accompanied(reference, x) for reference in known.references]
        for other in (asked, *others):
            _check_labels(other, x, y, batch)
        sample = Sample(
            *(asked, x, y, threat, Keyed.of(places.to(x.device), seed, "doubts"), places.to(x.device)),
            *(known.flags, known.gradient_free, known.black_box, batch, untouched, others),
            company=single(asked) is not single(model),
        )
        found = [(name, DOUBTS[name](sample)) for name in DOUBTS]
    return [Doubt(name, sentence=doubt[1], value=doubt[0]) for name, doubt in found if doubt]


@torch.no_grad()
def _check_labels(model: nn.Module, x: Tensor, y: Tensor, batch: int | None) -> None:
    part = x[: batch or len(x)]
    check_labels(y, len(x), classes_of(model(part), len(part)))


def _check_flags(flags: Mapping[str, Tensor], places: Tensor, n: int) -> None:
    if places.dtype != torch.int64 or places.shape != (n,):
        raise HarpError(f"places are {places.dtype} of shape {tuple(places.shape)}; expected int64 [{n}], one an image")
    if places.min() < 0:
        raise HarpError(f"places begin at {int(places.min())}; expected none negative")
    rows = int(places.max()) + 1
    for name, right in flags.items():
        if right.dtype != torch.bool or right.ndim != 1 or len(right) < rows:
            form = f"{right.dtype} of shape {tuple(right.shape)}"
            raise HarpError(f"flags of {name!r} are {form}; expected bool [N], N at least {rows} for these places")
