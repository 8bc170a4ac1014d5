from itertools import islice

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from harp.data import Batches, Loader, Resident
from harp.data.batches import unit
from harp.errors import HarpError

from .samples import numbered


def loader(n: int = 10) -> DataLoader[tuple[Tensor, ...]]:
    images = torch.arange(n)[:, None, None, None] / 255
    return DataLoader(TensorDataset(images, torch.arange(n)), batch_size=4)


def labels(batches) -> list[list[int]]:
    return [y.tolist() for _, y in batches]


def test_a_data_loader_goes_round_and_resumes():
    data = Loader(loader(), "cpu")
    assert data.steps_per_epoch == 3
    assert labels(islice(data.after(0), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3]]
    assert labels(islice(data.after(4), 3)) == [[4, 5, 6, 7], [8, 9], [0, 1, 2, 3]]
    assert labels(data.once()) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_both_kinds_keep_the_protocol():
    kinds: list[Batches] = [Loader(loader(), "cpu"), Resident(numbered(10), 4, 0, device="cpu")]
    for data in kinds:
        x, y = next(data.after(data.steps_per_epoch))
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert sum(len(y) for _, y in data.once()) == 10


def test_bytes_and_small_labels_are_converted():
    ((x, y),) = Loader([(torch.full((2, 1, 1, 1), 51, dtype=torch.uint8), torch.ones(2).int())], "cpu").once()
    assert x.flatten().tolist() == pytest.approx([0.2, 0.2])
    assert y.dtype == torch.int64


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.tensor([-2.0, 2.5]), torch.tensor([0, 1]), r"span \[-2, 2.5\]; expected \[0, 1\]"),
        (torch.tensor([0.0, torch.nan]), torch.tensor([0, 1]), "span"),
        (torch.zeros(2).double(), torch.tensor([0, 1]), "images are torch.float64"),
        (torch.zeros(2), torch.tensor([0.0, 1.0]), "labels are torch.float32"),
        (torch.zeros(2), torch.tensor([0]), r"expected integers \[2\]"),
    ],
)
def test_wrong_batches_are_refused(x, y, message):
    with pytest.raises(HarpError, match=message):
        next(Loader([(x, y)], "cpu").after(0))


class Broken:
    """Promises two batches and gives one."""

    def __len__(self):
        return 2

    def __iter__(self):
        return iter([(torch.zeros(1, 1, 1, 1), torch.tensor([0]))])


def test_loaders_that_cannot_serve_are_refused():
    with pytest.raises(HarpError, match="has no length"):
        Loader((batch for batch in loader()), "cpu")
    with pytest.raises(HarpError, match="holds no batch"):
        Loader([], "cpu")
    with pytest.raises(HarpError, match="ended before batch 2 of the 2"):
        list(islice(Loader(Broken(), "cpu").after(0), 2))
    with pytest.raises(HarpError, match="ended before batch 2 of the 2"):
        next(Loader(Broken(), "cpu").after(1))


@pytest.mark.parametrize("n", [3, 43690, 43691, 50000])
def test_bytes_become_floats_where_tensors_begin(n):
    images = torch.arange(24 * n).remainder(256).to(torch.uint8).view(n, 3, 2, 4)
    found = unit(images)
    assert torch.equal(found, images.to(torch.float32) / 255)
    assert (found.shape, found.stride(), found.data_ptr() % 64) == (images.shape, images.stride(), 0)
    wide = images.to(memory_format=torch.channels_last)
    assert torch.equal(unit(wide), found)
    assert unit(wide).stride() == wide.stride()
