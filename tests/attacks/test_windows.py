import math
from dataclasses import replace

import pytest
import torch

from harp.attacks.windows import Bumps, Stripes, _bump, _peak
from harp.randomness import Keyed, generator
from harp.threats import Threat

SHARES = [0.8 / 2**halvings for halvings in range(10)]
SHAPES = [(1, 1, 1), (3, 1, 6), (1, 7, 3), (2, 9, 14)]
# Images are in [0, 1]: the first box binds them, the second does not.
TIGHT, WIDE = {"low": 0.0, "high": 1.0}, {"low": -50.0, "high": 50.0}


def points(n, name="points"):
    return Keyed.of(torch.arange(n), 0, name)


def images(n, *shape):
    """Images with pixels at the box's edges, too."""
    return (1.6 * torch.rand(n, *shape, generator=generator(0, "images")) - 0.3).clamp(0, 1)


def moves(threat, like, shares=SHARES):
    return (Stripes if threat.norm == math.inf else Bumps)(threat, like, shares)


def walk(threat, x, steps):
    """Every image of runs that keep each move, with shares mixed in one batch."""
    windows = moves(threat, x)
    seen = [windows.first(x, points(len(x)))]
    for step in range(steps):
        share = (torch.arange(len(x)) + step) % len(SHARES)
        seen.append(windows.next(x, seen[-1], share, points(len(x)).at(step)))
    return seen


def test_sides_of_windows_by_hand():
    # 32 sqrt(0.8) = 28.6, 32 sqrt(0.4) = 20.2 and so on; bumps are odd and of at least 3.
    like = torch.zeros(1, 3, 32, 32)
    assert moves(Threat(math.inf), like).sides.tolist() == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    assert moves(Threat(2, 1), like).sides.tolist() == [29, 21, 15, 11, 7, 5, 5, 3, 3, 3]
    # No window is longer than the shorter side.
    assert moves(Threat(math.inf), torch.zeros(1, 1, 4, 20)).sides.tolist()[:5] == [4, 4, 4, 3, 2]
    assert moves(Threat(2, 1), torch.zeros(1, 1, 2, 20)).sides.tolist() == [2] * 10


def test_a_peak_by_hand():
    # Rings 0, 1 and 2 around the middle: 1 + 1/4 + 1/9, 1/4 + 1/9 and 1/9, up to the norm; for norm 1 fourth powers.
    peak = _peak(5, 5, 2)
    assert (peak[2] / peak[0, 0]).tolist() == pytest.approx([1, 13 / 4, 49 / 4, 13 / 4, 1])
    peak = _peak(3, 3, 1)
    assert (peak[1] / peak[0, 0]).tolist() == pytest.approx([1, 17, 1])


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("side", [2, 3, 6, 9])
def test_a_bump_has_norm_one_and_halves_of_opposite_sign_and_equal_size(side, norm):
    bump = _bump(side, norm)
    assert torch.linalg.vector_norm(bump, ord=norm).item() == pytest.approx(1)
    assert (bump[: side // 2] > 0).all()
    assert (bump[side // 2 :] < 0).all()
    sizes = [torch.linalg.vector_norm(half, ord=norm).item() for half in (bump[: side // 2], bump[side // 2 :])]
    assert sizes[0] == pytest.approx(sizes[1])


@pytest.mark.parametrize("box", [TIGHT, WIDE], ids=["tight", "wide"])
@pytest.mark.parametrize("eps", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("norm", [math.inf, 2, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_image_lies_in_ball_and_box(shape, norm, eps, box):
    threat, x = Threat(norm, eps, **box), images(10, *shape)
    for adv in walk(threat, x, 6):
        assert adv.shape == x.shape
        assert adv.isfinite().all()
        assert (threat.excess(adv, x) <= 1e-6).all()


def test_the_ball_of_norm_1_is_kept_where_sums_are_long():
    threat, x = Threat(1, 40), images(4, 3, 32, 32)
    assert all((threat.excess(adv, x) <= 1e-6 * threat.eps).all() for adv in walk(threat, x, 5))


def test_stripes_begin_as_columns_at_the_ends_of_the_range():
    threat, x = Threat(math.inf, 0.1), torch.full([50, 3, 5, 7], 0.5)
    delta = moves(threat, x).first(x, points(50)) - x
    assert torch.allclose(delta.abs(), torch.full_like(delta, 0.1))
    assert (delta == delta[:, :, :1]).all()
    # 50 * 3 * 7 fair coins: within four standard deviations of one half.
    assert abs(delta[:, :, 0].gt(0).float().mean() - 0.5) < 4 * 0.5 / math.sqrt(1050)


def test_a_window_of_stripes_has_one_colour_and_every_place():
    n, threat = 2000, Threat(math.inf, 0.1)
    x = torch.full([n, 2, 4, 5], 0.5)
    # 0.2 of 20 pixels: 2 by 2, in one of 3 * 4 places.
    moved = moves(threat, x, [0.2]).next(x, x, torch.zeros(n, dtype=torch.long), points(n)) - x
    assert ((moved != 0).sum((2, 3)) == 4).all()
    assert torch.allclose(moved.sum((2, 3)).abs(), torch.full([n, 2], 0.4))
    corners = (moved[:, 0] != 0).flatten(1).float().argmax(1).bincount(minlength=20).view(4, 5)[:3, :4]
    assert corners.sum() == n
    # Each count is binomial around n / 12 = 167 with a deviation of 12.4.
    assert (corners - n / 12).abs().max() < 4 * 12.4


@pytest.mark.parametrize(("height", "width"), [(10, 10), (10, 21), (4, 9), (1, 5)])
def test_the_first_image_is_tiled_with_bumps_of_equal_size(height, width):
    threat, x = Threat(2, 0.7, **WIDE), torch.zeros(6, 2, height, width)
    delta = moves(threat, x).first(x, points(6))
    assert torch.allclose(threat.distance(delta, x), torch.full([6], 0.7))
    side = max(1, min(height, width) // 5)
    top, left = height % side // 2, width % side // 2
    tiles = delta[:, :, top:, left:].unfold(2, side, side).unfold(3, side, side)
    sizes = tiles.square().sum((4, 5)).sqrt()
    assert sizes.shape == (6, 2, height // side, width // side)
    assert torch.allclose(sizes, sizes.mean(), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_two_windows_held_goes_into_one(channels):
    # All of eps is spent and no box binds, so sizes by channel are exact: one window ends with what both had.
    threat, x = replace(Threat(2, 1.0), **WIDE), torch.zeros(40, channels, 8, 8)
    windows = moves(threat, x, [0.14])
    best = windows.first(x, points(40))
    adv = windows.next(x, best, torch.zeros(40, dtype=torch.long), points(40, "next"))
    changed = (adv - best).abs().gt(1e-6).any(1)
    assert torch.allclose(adv.square().sum((2, 3)), best.square().sum((2, 3)), atol=1e-6)
    # At most two windows of 3 by 3.
    assert changed.flatten(1).sum(1).max() <= 18
    emptied = changed & (adv == 0).all(1)
    assert emptied.any(2).any(1).float().mean() > 0.8


@pytest.mark.parametrize("norm", [1, 2])
def test_a_bump_upright_or_turned_is_added_to_what_the_window_held(norm):
    # The window is the whole image, so that what comes out is known but for the bump's sign and its turn.
    threat, x, bump = Threat(norm, 1, **WIDE), torch.zeros(40, 1, 5, 5), _bump(5, norm)
    best = 0.5 * torch.nn.functional.normalize(torch.rand(40, 25, generator=generator(0, "x")), norm).view_as(x)
    adv = moves(threat, x, [1.0]).next(x, best, torch.zeros(40, dtype=torch.long), points(40))
    sums = torch.stack([best / 0.5 + part for part in (bump, -bump, bump.T, -bump.T)], 1)
    sums = torch.nn.functional.normalize(sums.flatten(2), norm, dim=2)
    off = (sums - adv.view(40, 1, 25)).abs().amax(2)
    assert (off.amin(1) < 1e-5).all()
    # Four equally likely ways, 40 draws: 10 each with a deviation of 2.7.
    assert (off.argmin(1).bincount(minlength=4) - 10).abs().max() < 4 * 2.7


def test_norm_2_hands_out_what_the_box_left_unspent():
    # Where best is the image itself, all of eps is unspent: it goes into one window, the same to each channel.
    threat = Threat(2, 0.3)
    x = torch.full([5, 3, 8, 8], 0.5)
    adv = moves(threat, x, [0.14]).next(x, x, torch.zeros(5, dtype=torch.long), points(5))
    sizes = (adv - x).square().sum((2, 3)).sqrt()
    assert torch.allclose(sizes, torch.full_like(sizes, 0.3 / math.sqrt(3)), atol=1e-6)
    assert ((adv != x).sum((2, 3)) == 9).all()
