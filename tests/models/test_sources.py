import pytest
import torch

from harp.errors import HarpError
from harp.models import MODELS, Normalised, build


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_every_network_gives_logits_for_grey_and_colour_images(name, channels, size):
    size = 32 if name == "vgg16_1fc" else size  # which halves them five times
    model = build(name, classes=7, channels=channels, size=size, width=0.1)
    assert model.training
    assert model(torch.rand(2, channels, size, size)).shape == (2, 7)


def test_digits_of_8_pixels():
    model = build("digits_cnn", classes=10, channels=1, size=8)
    assert model(torch.rand(3, 1, 8, 8)).shape == (3, 10)


def test_the_callers_seed_decides_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return build("digits_cnn", classes=10, channels=1, size=8, width=0.25).state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_mean_and_std_go_inside_the_model():
    model = build("cifar_cnn", classes=10, channels=3, size=32, width=0.1, normalise=([0.5] * 3, [0.25] * 3))
    assert isinstance(model, Normalised)
    assert model.std.flatten().tolist() == [0.25] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet81"}, "no model 'resnet81'; did you mean 'resnet18'"),
        ({"name": "net.py"}, "names a file but no function"),
        ({"name": "tim:resnet18"}, "no model 'tim:resnet18'.* or timm:NAME, torchvision:NAME, hf:NAME; or a file of"),
        ({"name": "timm"}, "no model 'timm'"),
        ({"classes": 0}, "classes 0"),
        ({"channels": 0}, "channels 0"),
        ({"size": -8}, "size -8"),
        ({"size": 3}, "3 x 3 pixels: expected 4 x 4"),
        ({"width": 0.0}, "width 0.0"),
        ({"normalise": ([0.5] * 3, [0.5] * 3)}, "3 values for images of 1 channels"),
        ({"normalise": ([0.5], [0.5] * 3)}, "mean has 1 values and std 3"),
    ],
)
def test_a_mistake_is_named(options, message):
    asked = {"name": "digits_cnn", "classes": 10, "channels": 1, "size": 8, **options}
    with pytest.raises(HarpError, match=message):
        build(asked.pop("name"), **asked)
