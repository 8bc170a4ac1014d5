import hashlib
from itertools import islice

import pytest
import torch
from hypothesis import given, strategies as st

from harp.data import Images, Resident
from harp.errors import HarpError
from harp.randomness import generator

from .samples import numbered


def resident(n: int = 10, batch_size: int = 4, **options) -> Resident:
    return Resident(numbered(n), batch_size, 0, device="cpu", **options)


def values(x: torch.Tensor) -> list[int]:
    return (x[:, 0, 0, 0] * 255).round().int().tolist()


def test_batches_follow_the_epochs_order():
    data = resident()
    assert data.steps_per_epoch == 2
    for step, (x, y) in enumerate(islice(data.after(0), 6)):
        epoch, position = divmod(step, 2)
        order = torch.randperm(10, generator=generator(0, "order", epoch))[4 * position : 4 * position + 4]
        assert values(x) == order.tolist()
        assert y.tolist() == (order % 2).tolist()
        assert (x.dtype, x.shape, y.dtype) == (torch.float32, (4, 1, 4, 4), torch.int64)


@given(st.integers(0, 12), st.sampled_from([torch.uint8, torch.float32]), st.booleans())
def test_resuming_is_exact(step, dtype, shuffle):
    noise = torch.randint(0, 256, (9, 3, 5, 5), generator=generator(0, "test")).to(torch.uint8)
    images = Images(noise if dtype == torch.uint8 else noise / 255, torch.arange(9))
    data = Resident(images, 4, 7, device="cpu", flip=True, pad=2, shuffle=shuffle)
    straight = list(islice(data.after(0), step, step + 4))
    resumed = list(islice(data.after(step), 4))
    for (x, y), (again, labels) in zip(straight, resumed, strict=True):
        assert torch.equal(x, again)
        assert torch.equal(y, labels)


def test_augmentation_is_drawn_per_step():
    noise = torch.rand(4, 1, 8, 8, generator=generator(0, "test"))
    data = Resident(Images(noise, torch.arange(4)), 4, 0, device="cpu", pad=2, flip=True, shuffle=False)
    (first, _), (second, _) = islice(data.after(0), 2)
    assert not torch.equal(first, second)
    assert first.min() == 0


def test_without_shuffle_the_smaller_last_batch_stays():
    data = resident(shuffle=False)
    assert data.steps_per_epoch == 3
    assert [values(x) for x, _ in islice(data.after(0), 4)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
        [0, 1, 2, 3],
    ]


def test_once_is_everything_in_order_and_unaugmented():
    data = resident(pad=2, flip=True)
    assert [values(x) for x, _ in data.once()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    ((x, y),) = data.once(batch_size=100)
    assert torch.equal(x * 255, data.images.float())
    assert torch.equal(y, data.labels)


@pytest.mark.parametrize("divide", [False, True])
def test_changing_a_batch_leaves_the_set_alone(divide):
    images = numbered(4).images / 255 if divide else numbered(4).images
    data = Resident(Images(images.clone(), torch.arange(4)), 4, 0, device="cpu", shuffle=False)
    for x, y in (next(data.after(0)), next(iter(data.once()))):
        x.zero_()
        y.zero_()
    assert torch.equal(data.images, images)
    assert data.labels.tolist() == [0, 1, 2, 3]


def test_every_byte_becomes_its_255th():
    images = Images(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16), torch.tensor([0]))
    ((x, _),) = Resident(images, 1, 0, device="cpu").once()
    assert torch.equal(x.flatten(), torch.arange(256).double().div(255).float())


@pytest.mark.parametrize("batch_size", [0, 11])
def test_a_batch_size_that_cannot_be_is_refused(batch_size):
    with pytest.raises(HarpError, match="expected 1 to 10"):
        resident(batch_size=batch_size)


def test_other_senseless_numbers_are_refused():
    with pytest.raises(HarpError, match="pad is -1"):
        resident(pad=-1)
    with pytest.raises(HarpError, match="step is -1"):
        resident().after(-1)
    with pytest.raises(HarpError, match="batch size is 0"):
        resident().once(batch_size=0)


def varied(**options) -> Resident:
    noise = torch.randint(0, 256, (9, 3, 5, 5), generator=generator(0, "test")).to(torch.uint8)
    return Resident(Images(noise, torch.arange(9)), 4, 7, device="cpu", **options)


def test_batches_are_those_of_earlier_versions():
    digest = hashlib.sha256()
    for batch in islice(varied(flip=True, pad=2).after(0), 6):
        for tensor in batch:
            digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest() == "28fd324bb511619b607d1fda3d81d1d0d0cfe86db08202bede4ac077492a6728"


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("options", [{"flip": True, "pad": 2}, {"flip": True, "crop": (0.2, 1.0), "jitter": 0.5}])
def test_parts_together_are_the_batch(shuffle, options):
    whole = varied(shuffle=shuffle, **options)
    parts = [varied(shuffle=shuffle, part=(index, 2), **options) for index in range(2)]
    for (x, y), first, second in islice(zip(whole.after(1), *(part.after(1) for part in parts), strict=True), 6):
        assert torch.equal(torch.cat([first[0], second[0]]), x)
        assert torch.equal(torch.cat([first[1], second[1]]), y)
    assert [len(x) for x, _ in parts[1].once()] == [4, 4, 1]


def test_windows_change_the_images_and_resume():
    data = varied(crop=(0.1, 0.5))
    (first, _), (second, _) = islice(data.after(0), 2)
    assert torch.equal(next(data.after(1))[0], second)
    assert first.shape == second.shape == (4, 3, 5, 5)
    assert not torch.equal(second, next(varied().after(1))[0])


@pytest.mark.parametrize(
    ("part", "message"),
    [((2, 2), "part 2 of 2; expected one from 0 to 1"), ((0, 3), "batch size 4 in 3 equal parts; expected a multiple")],
)
def test_parts_that_cannot_be_are_refused(part, message):
    with pytest.raises(HarpError, match=message):
        varied(part=part)
