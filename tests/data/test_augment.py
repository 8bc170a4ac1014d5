import pytest
import torch
from hypothesis import given, strategies as st
from torch.nn import functional

from harp.data.augment import Draws, check_varied, crop, jittered, magnified, mirror
from harp.data.windows import Window
from harp.errors import HarpError
from harp.randomness import generator


def test_a_crop_is_the_window_at_its_offset():
    images = torch.arange(6 * 2 * 3 * 4, dtype=torch.uint8).view(6, 2, 3, 4)
    found = crop(images, 2, generator(0, "test"))
    offsets = torch.randint(0, 5, (2, 6), generator=generator(0, "test"))
    padded = functional.pad(images, [2] * 4)
    for image, down, right, window in zip(padded, *offsets, found, strict=True):
        assert torch.equal(window, image[:, down : down + 3, right : right + 4])


def test_every_offset_occurs_and_nothing_else():
    images = torch.zeros(500, 1, 3, 3)
    images[:, :, 1, 1] = 1
    found = crop(images, 1, generator(0, "test"))
    places = found.flatten(1).nonzero()[:, 1]
    assert len(places) == 500
    # 9 equally likely places, 55.6 each on average with a standard deviation of 7.
    assert (places.bincount(minlength=9) - 500 / 9).abs().max() < 28


def test_half_of_the_images_are_mirrored():
    images = torch.tensor([1.0, 2.0, 3.0]).expand(400, 1, 1, 3)
    found = mirror(images, generator(0, "test"))
    flipped = (found == images.flip(-1)).flatten(1).all(1)
    kept = (found == images).flatten(1).all(1)
    assert (flipped ^ kept).all()
    # The standard deviation of the count is 10.
    assert abs(int(flipped.sum()) - 200) < 40


def test_a_window_is_stretched_as_pytorch_stretches():
    images = torch.rand(3, 2, 6, 9, generator=generator(0, "test"))
    windows = [Window(0, 0, 6, 9), Window(1, 2, 4, 3), Window(5, 8, 1, 1)]
    found = magnified(images, windows)
    for image, window, one in zip(images, windows, found, strict=True):
        cut = image[None, :, window.top : window.top + window.height, window.left : window.left + window.width]
        wanted = functional.interpolate(cut, (6, 9), mode="bilinear", antialias=False)[0]
        torch.testing.assert_close(one, wanted, rtol=0, atol=1e-6)


def test_brightness_contrast_and_saturation_are_multiplied():
    image = torch.tensor([0.2, 0.4, 0.1]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    one = torch.ones(3, 1)
    assert torch.allclose(jittered(image, one), image, atol=1e-7)
    light, contrast, colour = (one.clone().index_fill_(0, torch.tensor([place]), 0.5) for place in range(3))
    assert torch.allclose(jittered(image, light), image / 2, atol=1e-7)
    grey = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.1
    # Of one colour the mean brightness is each pixel's.
    for factors in (contrast, colour):
        assert torch.allclose(jittered(image, factors), grey + (image - grey) / 2, atol=1e-6)
    two = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    assert torch.equal(jittered(two, torch.ones(3, 2)), two)


@given(st.integers(0, 100), st.integers(1, 3))
def test_jitter_stays_in_the_box_and_each_image_has_its_own(seed, channels):
    images = torch.rand(5, channels, 4, 4, generator=generator(seed, "test"))
    draws = Draws.of({"jitter": 1.0}, 5, generator(seed, "draws"))
    assert draws.factors is not None
    found = jittered(images, draws.factors)
    assert ((found >= 0) & (found <= 1)).all()
    for place in range(5):
        part = slice(place, place + 1)
        assert torch.equal(jittered(images[part], draws.factors[:, part]), found[part])


def test_draws_are_named_by_the_batch_and_cut_into_parts():
    draws = Draws.of({"flip": True, "crop": (0.08, 1.0), "jitter": 0.4}, 8, generator(0, "test"))
    assert draws.windows is not None
    assert draws.mirrored is not None
    assert draws.factors is not None
    assert (draws.shifts, draws.windows.shape, draws.mirrored.shape) == (None, (4, 8), (8,))
    assert ((draws.factors >= 0.6) & (draws.factors <= 1.4)).all()
    part = draws.part(slice(2, 4))
    assert part.shifts is None
    for field in ("windows", "mirrored", "factors"):
        assert torch.equal(getattr(part, field), getattr(draws, field)[..., 2:4])


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        ({"pad": 4}, "pad is 4 for images of 4 pixels; expected 0 to 3"),
        ({"crop": (0.5, 0.2)}, r"crop is 0\.5 to 0\.2; expected shares above 0"),
        ({"crop": (0.0, 1.0)}, "crop is 0 to 1"),
        ({"crop": (0.5, 1.0), "pad": 1}, "pad is 1 beside crop"),
        ({"jitter": 1.5}, r"jitter is 1\.5; expected 0 to 1"),
    ],
)
def test_variations_that_cannot_be_are_refused(varied, message):
    with pytest.raises(HarpError, match=message):
        check_varied(varied, (4, 8))
