import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.models import Logits, check_logits, classes_of
from harp.models.check import adapted


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer


def network(channels=3, classes=10):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, classes),
    )


def test_a_fitting_network_passes_and_keeps_its_modes_and_its_state():
    model = network()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_logits(model, 10, 3, 8)
    assert [layer.training for layer in model] == [True, False, True, True, True]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_modes_come_back_after_a_failure():
    model = network()
    with pytest.raises(HarpError):
        check_logits(model, 10, 1, 8)
    assert all(module.training for module in model.modules())


def test_another_number_of_classes_is_named():
    with pytest.raises(HarpError, match="a network of 1000 logits for a data set of 10 classes"):
        check_logits(network(classes=1000), 10, 3, 8)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 2)])
def test_images_the_network_cannot_take_are_named(channels, size):
    with pytest.raises(HarpError, match=f"fails on images of {channels} x {size} x {size} \\(RuntimeError"):
        check_logits(network(), 10, channels, size)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"logits": torch.zeros(2, 10)}, "returns an object of type dict"),
        (torch.zeros(2, 10, dtype=torch.int64), "returns torch.int64"),
        (torch.zeros(10), r"shape \[10\] for 2 images"),
        (torch.zeros(2, 10, 1, 1), r"shape \[2, 10, 1, 1\]"),
        (torch.zeros(1, 10), r"shape \[1, 10\]"),
    ],
)
def test_anything_but_float_logits_is_refused(answer, message):
    with pytest.raises(HarpError, match=message):
        check_logits(Answers(answer), 10, 3, 8)


def test_a_network_is_wrapped_only_where_it_returns_no_tensor():
    plain, wrapping = network(), Answers({"logits": torch.zeros(2, 10)})
    assert adapted(plain, 3, 8) is plain
    model = adapted(wrapping, 3, 8)
    assert isinstance(model, Logits)
    check_logits(model, 10, 3, 8)


def test_an_output_without_logits_is_named():
    with pytest.raises(HarpError, match=r"^the network returns an object of type dict without"):
        check_logits(adapted(Answers({}), 3, 8), 10, 3, 8)


def test_the_classes_are_the_logits_columns():
    assert classes_of(torch.zeros(3, 7), 3) == 7


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"logits": torch.zeros(3, 7)}, "answers with dict"),
        (torch.zeros(3, 1), r"float32 \[3, 1\]"),
        (torch.zeros(3, 7, 2), r"float32 \[3, 7, 2\]"),
        (torch.zeros(1, 7), r"float32 \[1, 7\]"),
        (torch.zeros(3, 7, dtype=torch.int64), r"int64 \[3, 7\]"),
    ],
)
def test_answers_that_are_no_logits_are_refused(answer, said):
    with pytest.raises(HarpError, match=said):
        classes_of(answer, 3)
