"""The tiniest arena, run once for all that look at it."""

from typing import Any

import pytest
from rich.console import Console

from harp.arena import arena
from harp.pipeline.display import Display
from tests.tiny import TINY

GRID: dict[str, Any] = {
    "name": "tiny",
    "settings": {
        **TINY,
        "pretrain": {**TINY["pretrain"], "epochs": 2},
        "prune": {**TINY["prune"], "epochs": 1},
        "finetune": {**TINY["finetune"], "epochs": 1},
        "evaluation": {"attacks": ["fgsm"], "images": 40, "doubts": 0, "curve": 0},
    },
    "rows": ["hydra", "magnitude", {"bad": {"prune": {"method": "harp", "options": {"gama": 1}}}}],
    "keeps": [0.3],
}


def quiet():
    return Display(Console(quiet=True))


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The tiny arena, run as it is by default, each process with one thread."""
    folder = tmp_path_factory.mktemp("arena")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return folder, arena(GRID, folder, jobs=2, display=quiet())
