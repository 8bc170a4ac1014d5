import threading
from itertools import islice

import pytest
import torch

from harp.data import Streamed, feed
from harp.data.order import Permutation

from .samples import picture_folder, train_of


def test_every_image_comes_once_an_epoch_in_an_order_that_resumes(tmp_path):
    train = train_of("folder", picture_folder(tmp_path))
    data = Streamed(train, 5, 3, device="cpu")
    assert (len(data), data.steps_per_epoch) == (10, 2)
    straight = list(islice(data.after(0), 6))
    for epoch in range(3):
        order = Permutation(10, 3, ("order", epoch))(torch.arange(10))
        batches = straight[2 * epoch : 2 * epoch + 2]
        assert torch.equal(torch.cat([y for _, y in batches]), train.labels[order])
        assert torch.equal(torch.cat([x for x, _ in batches]) * 255, train.images[order].float())
    for step in range(5):
        x, y = next(data.after(step))
        assert torch.equal(x, straight[step][0])
        assert torch.equal(y, straight[step][1])


@pytest.mark.parametrize("options", [{"flip": True, "pad": 2}, {"flip": True, "crop": (0.1, 1.0), "jitter": 0.5}])
def test_parts_together_are_the_batch(tmp_path, options):
    train = train_of("folder", picture_folder(tmp_path))
    whole, *parts = (
        feed(train, 4, 7, device="cpu", shuffle=shuffle, part=part, **options)
        for shuffle in (False,)
        for part in ((0, 1), (0, 2), (1, 2))
    )
    for (x, y), first, second in islice(zip(whole.after(1), *(part.after(1) for part in parts), strict=True), 4):
        assert torch.equal(torch.cat([first[0], second[0]]), x)
        assert torch.equal(torch.cat([first[1], second[1]]), y)


def test_windows_are_cut_out_at_random_and_measuring_sees_the_middle(tmp_path):
    train = train_of("folder", picture_folder(tmp_path))
    data = Streamed(train, 10, 0, device="cpu", shuffle=False, crop=(0.1, 0.4))
    (first, y), (second, _) = islice(data.after(0), 2)
    assert first.shape == (10, 3, 6, 6)
    assert torch.equal(y, train.labels)
    assert not torch.equal(first, second)
    ((seen, _),) = data.once()
    assert torch.equal(seen * 255, train.images.float())
    assert [len(x) for x, _ in data.once(4)] == [4, 4, 2]


def test_an_iterator_that_is_dropped_ends_its_threads(tmp_path):
    train = train_of("folder", picture_folder(tmp_path))
    before = threading.active_count()
    batches = Streamed(train, 5, 0, device="cpu").after(0)
    next(batches)
    assert before < threading.active_count() <= before + 2
    del batches
    assert threading.active_count() == before


def test_pictures_are_found_whatever_the_default_device(tmp_path):
    train = train_of("folder", picture_folder(tmp_path))
    data = Streamed(train, 5, 3, device="cpu")
    x, expected = next(data.after(0))[0], train.images
    with torch.device("meta"):
        assert torch.equal(next(data.after(0))[0], x)
        assert torch.equal(torch.cat([images for images, _ in data.once(4)]) * 255, expected.float())
        assert torch.equal(train.images, expected)
