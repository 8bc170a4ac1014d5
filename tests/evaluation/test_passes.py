import pytest
import torch

from harp.errors import HarpError
from harp.evaluation.passes import Passes, fingerprints

X = torch.arange(6.0).view(6, 1, 1, 1) / 6
Y = torch.arange(6)
FIRST = [(X[:3], Y[:3]), (X[3:], Y[3:])]


def seen(batches, measure="pgd"):
    """A first pass over FIRST, then one over `batches`."""
    passes = Passes()
    for x, y in FIRST:
        passes.begin(fingerprints(x, y))
    for index, (x, y) in enumerate(batches):
        passes.check(measure, index, fingerprints(x, y))
    passes.end(measure, len(batches))


def test_an_image_is_known_by_its_pixels_its_form_and_its_label():
    x = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    found = fingerprints(x, Y[:2])
    assert found.dtype is torch.int64
    assert torch.equal(found, fingerprints(x.to(memory_format=torch.channels_last), Y[:2]))
    assert torch.equal(found.flip(0), fingerprints(x.flip(0), Y[:2].flip(0)))
    others = (x.double(), Y[:2]), (x.view(2, 1, 4, 1), Y[:2]), (x, Y[:2] + 1), (x + 1e-7, Y[:2])
    assert all((fingerprints(*other) != found).all() for other in others)


def test_the_same_images_again_are_taken():
    seen([(x.clone(), y.clone()) for x, y in FIRST])


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([FIRST[1], FIRST[0]], "batch 0 of the pass for pgd has its images in another order"),
        ([FIRST[0], (X[3:].flip(0), Y[3:].flip(0))], "batch 1 of the pass for pgd has its images in another order"),
        ([(X[:3] + 0.01, Y[:3]), FIRST[1]], "batch 0 of the pass for pgd has other pixels or labels"),
        ([(X[:2], Y[:2]), FIRST[1]], "has 2 images and had 3 in the first pass"),
        ([FIRST[0]], "ended after 1 of the first's 2 batches"),
        ([*FIRST, FIRST[0]], "has more batches than the first, 2"),
    ],
)
def test_what_changed_is_told_in_one_sentence(batches, message):
    with pytest.raises(HarpError, match=message) as told:
        seen(batches)
    assert str(told.value).endswith("no shuffling, no random augmentation, or a list")
