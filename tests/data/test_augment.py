import torch
from torch.nn import functional

from harp.data.augment import crop, mirror
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
