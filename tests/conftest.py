import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# No deadline: the machine may be shared. No database: a test writes nowhere but in tmp_path.
settings.register_profile("harp", deadline=None, database=None)
settings.load_profile("harp")

# One test process a core: more threads than cores would wait for one another.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _state(tmp_path_factory):
    """What tests run and fetch by name is remembered elsewhere than in somebody's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _trace():
    """AutoAttack's package, called bare, takes away the trace function: under coverage, all that came after it."""
    trace = sys.gettrace()
    yield
    if sys.gettrace() is not trace:
        sys.settrace(trace)


def _load_operators() -> None:
    """Loads torchvision's compiled operators where they fit the torch that is here, without importing torchvision."""
    found = find_spec("torchvision")
    for library in Path(found.origin).parent.glob("_C*.so") if found and found.origin else ():
        with suppress(OSError):
            torch.ops.load_library(library)


# torchvision asks for its compiled operators when imported, and there is no build of them for a CPU torch; declared,
# they let it, and timm and transformers where it is installed, be imported. Nothing here calls them. Where they do load
# they are not declared a second time, which would end the process.
_load_operators()
if not hasattr(torch.ops.torchvision, "nms"):
    OPERATORS = torch.library.Library("torchvision", "DEF")
    OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
