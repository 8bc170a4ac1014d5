import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.evaluation.inputs import check_images, check_labels, mode_note
from harp.threats import Threat

BOX = Threat(low=-1.0, high=2.0)


def pictures(*changed):
    """Five images in the box [-1, 2], corners included, some pixels changed."""
    x = torch.linspace(-1, 2, 20).view(5, 1, 2, 2)
    for index, value in changed:
        x[index, 0, 1, 0] = value
    return x


def test_images_in_the_box_pass_and_rounding_does():
    check_images(pictures(), BOX)
    check_images(pictures((2, 2 + 2e-6), (3, -1 - 2e-6)), BOX)


@pytest.mark.parametrize("pixel", [2.001, -1.001, float("nan"), float("inf"), -float("inf")])
def test_the_first_image_outside_is_named_by_its_place(pixel):
    message = f"image 103 has a pixel of {pixel:.4g}; expected the threat's box, -1 to 2"
    with pytest.raises(HarpError, match=message):
        check_images(pictures((3, pixel), (4, 9.0)), BOX, first=100)


@pytest.mark.parametrize("x", [torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(0, 1, 2, 2), torch.zeros(3)])
def test_what_is_no_batch_of_images_is_refused(x):
    with pytest.raises(HarpError, match=rf"images are (uint8|float32) \[{len(x)}"):
        check_images(x, BOX)


def test_labels_beyond_the_classes_are_named_by_their_place():
    check_labels(torch.tensor([0, 1, 2]), 3, 3)
    for labels, said in (([0, 3, 4], "image 11 has label 3"), ([0, 1, -1], "image 12 has label -1")):
        with pytest.raises(HarpError, match=f"{said}; the network has classes 0 to 2"):
            check_labels(torch.tensor(labels), 3, 3, first=10)


@pytest.mark.parametrize("y", [torch.zeros(3), torch.zeros(2, dtype=torch.int64), torch.zeros(3, 1, dtype=torch.int64)])
def test_labels_of_another_form_are_refused(y):
    with pytest.raises(HarpError, match=r"expected int64 \[3\]"):
        check_labels(y, 3, 3)


def test_train_mode_is_noted_and_eval_mode_is_not():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    assert mode_note(model) is None
    model[1].train()
    assert "1 of 3 modules came in train mode (first: 1)" in (mode_note(model) or "")
    assert "3 of 3 modules came in train mode (first: the network itself)" in (mode_note(model.train()) or "")
