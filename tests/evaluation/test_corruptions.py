"""Natural corruptions: what each does in closed form, the same every time, for any size; recorded batch by batch."""

import math

import numpy
import pytest
import torch
from scipy import stats
from torch import nn

from harp.errors import HarpError
from harp.evaluation.corruptions import CORRUPTIONS, LEVELS, corrupted, under_corruptions
from harp.evaluation.corruptions.pixels import poisson
from harp.randomness import Keyed
from tests.evaluation.defences import dense


def drawn(n, name="test"):
    return Keyed.of(torch.arange(n), 0, name)


def smooth(n, channels, height, width):
    """Images with large shapes, as pictures have."""
    coarse = torch.rand(n, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


X = {size: smooth(6, *size) for size in ((1, 8, 8), (3, 32, 24), (3, 70, 90))}


def test_there_are_a_dozen():
    assert len(CORRUPTIONS) == 12


@pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
@pytest.mark.parametrize("size", X, ids=str)
def test_each_gives_images_that_repeat_and_depend_on_their_own_draw_alone(kind, size):
    x = X[size]
    kept = x.clone()
    for level in (1, 5):
        found = corrupted(x, kind, level, drawn(6))
        assert torch.equal(x, kept)
        assert found.shape == x.shape
        assert ((found >= 0) & (found <= 1)).all()
        assert torch.allclose(found * 255, (found * 255).round(), atol=1e-4)
        assert torch.equal(found, corrupted(x, kind, level, drawn(6)))
        part = torch.tensor([4, 1])
        assert torch.allclose(found[part], corrupted(x[part], kind, level, drawn(6).take(part)), atol=1.01 / 255)
    assert not torch.equal(found, x)


@pytest.mark.parametrize("kind", sorted({*CORRUPTIONS} - {"pixelate", "jpeg", "fog"}))
@pytest.mark.parametrize("size", [(3, 32, 24), (3, 70, 90)], ids=str)
def test_the_higher_the_level_the_further_from_the_image(kind, size):
    far = [float((corrupted(X[size], kind, level, drawn(6)) - X[size]).square().mean()) for level in LEVELS]
    assert far == sorted(far)
    assert far[4] > far[0] > 0


def test_noises_have_their_deviations():
    grey = torch.full((20, 1, 64, 64), 0.5)
    for level, deviation in ((1, 0.08), (2, 0.12)):
        found = corrupted(grey, "gaussian-noise", level, drawn(20))
        assert float(found.std()) == pytest.approx(deviation, rel=0.02)
    for level, quanta in ((1, 60), (3, 12)):
        found = corrupted(grey, "shot-noise", level, drawn(20))
        assert float(found.mean()) == pytest.approx(0.5, rel=0.01)
        assert float(found.std()) == pytest.approx(math.sqrt(0.5 / quanta), rel=0.02)
    found = corrupted(grey, "impulse-noise", 5, drawn(20))
    assert float((found == 0).float().mean()) == pytest.approx(0.135, rel=0.05)
    assert float((found == 1).float().mean()) == pytest.approx(0.135, rel=0.05)


def test_poisson_counts_are_those_of_the_inverse_sums():
    mean = torch.tensor([0.0, 0.3, 1.0, 7.5, 60.0, 500.0]).repeat(400)
    u = torch.rand(len(mean), generator=torch.Generator().manual_seed(0))
    # Where sums rise past a number within float64's rounding, counts may be one apart.
    off = poisson(mean, u).numpy() - stats.poisson.ppf(u.numpy(), mean.numpy()).clip(0)
    assert numpy.abs(off).max() <= 1
    assert (off != 0).mean() < 0.001


def test_light_contrast_and_pixels_are_closed_forms():
    x = X[(3, 32, 24)]
    lighter = corrupted(x, "brightness", 5, drawn(6))
    assert torch.allclose(lighter.amax(1), (x.amax(1) + 0.3).clamp(max=1), atol=1 / 255)
    assert torch.allclose(corrupted(x * 0, "brightness", 5, drawn(6)), torch.full_like(x, 0.3), atol=1 / 255)
    duller = corrupted(x, "contrast", 4, drawn(6))
    assert torch.allclose(duller.std((2, 3)), 0.3 * x.std((2, 3)), atol=2 / 255)
    assert torch.allclose(duller.mean((2, 3)), x.mean((2, 3)), atol=1 / 255)
    halves = torch.arange(4.0).repeat_interleave(2).expand(1, 1, 64, 8).repeat(1, 1, 1, 8) / 3
    assert torch.allclose(corrupted(halves, "pixelate", 2, drawn(1)), halves, atol=1 / 255)


@pytest.mark.parametrize("kind", ["defocus-blur", "motion-blur", "zoom-blur", "elastic"])
def test_what_moves_light_leaves_an_even_image_alone(kind):
    even = torch.full((2, 3, 70, 90), 0.6)
    assert torch.equal(corrupted(even, kind, 5, drawn(2)), even)
    point = torch.zeros(1, 1, 101, 101)
    point[0, 0, 50, 50] = 255.0
    if kind.endswith("blur") and kind != "zoom-blur":
        spread = CORRUPTIONS[kind](point, 5, drawn(1))
        assert float(spread.sum()) == pytest.approx(255.0, rel=1e-4)
        reach = (spread[0, 0] > 0).nonzero() - 50
        # The disc's radius is 4.5 pixels, the line's half length 6.6.
        assert 4 <= float(reach.float().norm(dim=1).max()) <= 8


def test_fog_keeps_the_brightest_value_within_reach_and_lifts_the_rest():
    x = X[(3, 70, 90)]
    spreads = [float(corrupted(x, "fog", level, drawn(6)).std((2, 3)).mean()) for level in (1, 3, 5)]
    assert spreads == sorted(spreads, reverse=True)
    found = corrupted(x, "fog", 3, drawn(6))
    assert (found.flatten(1).amax(1) <= x.flatten(1).amax(1) + 1 / 255).all()
    assert float(found.std((2, 3)).mean()) < float(x.std((2, 3)).mean())


def test_mistakes_are_refused():
    with pytest.raises(HarpError, match="did you mean 'fog'"):
        corrupted(X[(1, 8, 8)], "fogg", 1, drawn(6))
    with pytest.raises(HarpError, match="level 6: expected 1 to 5"):
        corrupted(X[(1, 8, 8)], "fog", 6, drawn(6))
    with pytest.raises(HarpError, match="expected images of 1 or 3 channels, got 2"):
        corrupted(X[(3, 32, 24)][:, :2], "jpeg", 1, drawn(6))
    with pytest.raises(HarpError, match="each once"):
        under_corruptions(dense(), [], ["fog", "fog"])


def test_a_network_is_measured_and_the_record_goes_on(tmp_path):
    torch.manual_seed(0)
    model, x = dense(16).eval(), smooth(40, 1, 8, 8)
    y = model(x).argmax(1)
    batches, kinds = [(x[:25], y[:25]), (x[25:], y[25:])], ["contrast", "gaussian-noise"]
    found = under_corruptions(model, batches, kinds, folder=tmp_path)
    assert found["clean"]["accuracy"] == 1
    for kind in kinds:
        for level, cell in zip(LEVELS, found["kinds"][kind]["levels"], strict=True):
            noise = Keyed.of(torch.arange(40), 0, "corruption", kind).at(level)
            right = model(corrupted(x, kind, level, noise)).argmax(1) == y
            assert cell["accuracy"] == float(right.double().mean())
            assert cell["low"] <= cell["accuracy"] <= cell["high"]
    row = found["kinds"]["contrast"]
    assert row["mean"] == pytest.approx(sum(cell["accuracy"] for cell in row["levels"]) / 5)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "contrast-00001.safetensors").unlink()
    again = under_corruptions(model, batches, [*kinds, "brightness"], folder=tmp_path)
    assert again["kinds"]["contrast"] == row
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(HarpError, match="record of another seed"):
        under_corruptions(model, batches, kinds, 1, folder=tmp_path)
    with pytest.raises(HarpError, match="record of other images"):
        under_corruptions(model, [(x[:25] * 0.5, y[:25])], kinds, folder=tmp_path)
    with pytest.raises(HarpError, match="record of another model"):
        under_corruptions(dense(16).eval(), batches, kinds, folder=tmp_path)


def test_an_edited_corruption_of_ones_own_never_meets_an_old_record(tmp_path):
    model, batches = dense(16).eval(), [(smooth(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))]
    own = tmp_path / "mine.py"
    own.write_text("def darker(x, level, noise):\n    return x * 0.5 ** level\n")
    under_corruptions(model, batches, [f"{own}:darker"], folder=tmp_path / "record")
    own.write_text("def darker(x, level, noise):\n    return x * 0.6 ** level\n")
    with pytest.raises(HarpError, match=r"record of another code, of .*mine\.py:darker"):
        under_corruptions(model, batches, [f"{own}:darker"], folder=tmp_path / "record")
