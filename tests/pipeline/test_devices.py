import pytest
import torch

from harp.errors import HarpError
from harp.pipeline.devices import find_device


def test_a_device_that_computes_is_itself():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["meta", "cuda:99", "nonsense", "", "cpu:x", "hpu", "lazy"])
def test_a_device_that_does_not_is_refused_in_one_line(name):
    with pytest.raises(HarpError, match=f"^device: {name!r} ") as error:
        find_device(name)
    assert "\n" not in str(error.value)
