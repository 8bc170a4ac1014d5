"""What every test of the engine finds."""

import pytest

from tests.runtime.graphs import NOISE


@pytest.fixture(autouse=True)
def same_noise() -> None:
    """Whichever tests a process ran before."""
    NOISE.manual_seed(0)
