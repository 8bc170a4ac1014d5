"""A small network, weights of it made elsewhere, and a file for them."""

import pytest
import torch

from tests.networks.foreign import Small


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Small()


@pytest.fixture
def theirs():
    torch.manual_seed(1)
    return Small().state_dict()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "theirs.pt"
