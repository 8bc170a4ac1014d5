"""Doubts raised by attacking the points once more: longer, without gradients, and at other radii."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch

from harp.evaluation.doubts.base import DOUBTS, FEW, Found, sign_test, surely
from harp.evaluation.doubts.sample import AVERAGED, BEYOND, LONG, QUERIES, SHORT, Sample

# Of all points, those answered wrongly included: what more steps may change (METHODS 4.3) ...
CONVERGED = 0.005
# ... and what Square may add to attacks by gradient: the share at which AutoAttack itself warns.
WINS = 0.002
# The search here may be lucky where the climbs were not: of 60 honest networks two lose 2 of 128 points to it, none
# more; behind rounding 29 to 51 fall, behind a table 9 to 14.
LUCK = 0.01
# At the large radius no point of an honest network holds, but 0.02 of those of one of 120 weights; without gradients
# all hold.
HOLDS = 0.05
# Growing by a quarter beyond eps, the radius costs 50 honest networks 0.1 to 0.7 of what held, and up to 2.8 times what
# the quarter before eps did. To cost more than this many times as much, distances to the boundary must all but agree.
JUMP, STEEPER = 0.1, 4
# Where the radius grows no point of ten honest networks comes back; were all a toss of coins, three such tests would
# raise a false alarm in 1.5 % of cases.
RISE = 0.005


@DOUBTS.register("loss-does-not-rise")
def loss_does_not_rise(sample: Sample) -> Found:
    """Along the steps of PGD the loss does not rise at all: the attack failed, not the image held."""
    count = int((~sample.short.rose).sum())
    if not surely(count, sample.m, FEW) or sample.threat.eps == 0:
        return None
    return count / sample.m, f"At {count} of {sample.m} points {SHORT} steps of PGD never raise the margin loss."


@DOUBTS.register("unconverged")
def unconverged(sample: Sample) -> Found:
    """PGD with more steps and other starts breaks what the evaluation calls robust: its attacks stopped too soon."""
    count, standing = int(sample.long.broken.sum()), int(sample.standing.sum())
    # Without an attack evaluated there is no number to doubt.
    if not sample.flags.keys() - {"clean"} or not surely(count, len(sample.x), CONVERGED):
        return None
    said = f"{LONG} steps of PGD on two losses break {count} of the {standing} points that the evaluation left standing"
    return count / len(sample.x), f"{said}, {count / len(sample.x):.1%} of {len(sample.x)}."


@DOUBTS.register("black-box-wins")
def black_box_wins(sample: Sample) -> Found:
    """A search without gradients breaks points that attacks by gradient do not: the gradients hide something."""
    wins = [win for win in (*_flagged(sample), _searched(sample)) if surely(win.broke, win.of, win.limit)]
    if not wins:
        return None
    said = ", ".join(f"{win.name} breaks {win.broke} of {win.of}" for win in wins)
    return max(win.broke / win.of for win in wins), f"Points that held under every attack by gradient: {said}."


class _Win(NamedTuple):
    name: str
    broke: int
    of: int
    limit: float


def _flagged(sample: Sample) -> Iterator[_Win]:
    held = torch.stack(list(sample.white.values())).all(0) if sample.white else None
    for name in sample.gradient_free:
        if held is not None and name in sample.flags:
            yield _Win(name, int((held & ~sample.flags[name]).sum()), len(held), WINS)


def _searched(sample: Sample) -> _Win:
    name = f"a search of {QUERIES} queries" if sample.black_box is None else repr(sample.black_box)
    return _Win(name, int(sample.blind.broken.sum()), len(sample.x), LUCK)


@DOUBTS.register("averaged-gradients-win")
def averaged_gradients_win(sample: Sample) -> Found:
    """Gradients averaged over the ball break points that single ones do not: what a single one says is shattered."""
    count = int(sample.averaged.broken.sum())
    if not surely(count, len(sample.x), LUCK):
        return None
    said = f"Means of {AVERAGED} gradients break {count} of {len(sample.x)} points that held under every attack by "
    return count / len(sample.x), said + "gradient."


@DOUBTS.register("transfer-wins")
def transfer_wins(sample: Sample) -> Found:
    """Images made against another network break points that attacks on this one do not: they were misled here."""
    count = int(sample.transferred.broken.sum())
    if not surely(count, len(sample.x), LUCK):
        return None
    said = (
        f"Images made against {len(sample.references)} other network(s) break {count} of {len(sample.x)} points that "
    )
    return count / len(sample.x), said + "held under every attack by gradient."


@DOUBTS.register("jump-beyond-eps")
def jump_beyond_eps(sample: Sample) -> Found:
    """Just beyond eps most of what holds at eps falls at once: something knows the radius that is asked for."""
    below, at, above = (int(broken.sum()) for broken in sample.around)
    before, after, held = at - below, above - at, sample.m - at
    if sample.threat.eps == 0 or not surely(after, held, JUMP) or sign_test(after, STEEPER * before) > RISE:
        return None
    said = f"PGD breaks {at} of {sample.m} points at eps, {below} at {1 / BEYOND:g} eps and {above} at {BEYOND:g} eps."
    return after / held, said


@DOUBTS.register("large-eps")
def large_eps(sample: Sample) -> Found:
    """Points hold at a radius where an image may be turned into nearly anything: the attack failed, not the image."""
    count = int((~sample.growing[sample.large.eps]).sum())
    if not surely(count, sample.m, HOLDS):
        return None
    return count / sample.m, f"{count} of {sample.m} points hold against PGD at eps {sample.large.eps:.3g}."


@DOUBTS.register("non-monotone")
def non_monotone(sample: Sample) -> Found:
    """A larger radius breaks fewer points than a smaller one, though it allows all that the smaller one does."""
    worst = (0.0, "")
    for (_, smaller), (radius, larger) in pairwise(sample.growing.items()):
        lost, won = int((smaller & ~larger).sum()), int((larger & ~smaller).sum())
        if sign_test(lost, won) < RISE:
            said = f"{lost} points broken at a smaller radius hold at eps {radius:.3g}, {won} the other way round."
            worst = max(worst, ((lost - won) / sample.m, said))
    return worst if worst[1] else None
