import sys

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.models import build
from harp.own import load_own

LINEAR = """
from torch import nn

def linear(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))
"""


@pytest.fixture
def source(tmp_path):
    def write(text, factory):
        (tmp_path / "net.py").write_text(text)
        return f"{tmp_path / 'net.py'}:{factory}"

    yield write
    for name in [name for name in sys.modules if name.startswith("harp_own_net_")]:
        del sys.modules[name]


def make(source, **options):
    return build(source, **{"classes": 10, "channels": 1, "size": 8, **options})


def test_a_factory_is_called_with_what_it_accepts(source):
    assert make(source(LINEAR, "linear"))(torch.rand(2, 1, 8, 8)).shape == (2, 10)


RECORDING = """
from torch import nn

def record({signature}):
    given = locals()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.given = given
    return model
"""


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("", {}),
        ("size, depth=3", {"size": 8, "depth": 3}),
        ("*, width", {"width": 1.0}),
        ("**rest", {"rest": {"classes": 10, "channels": 1, "size": 8, "width": 1.0}}),
    ],
)
def test_the_signature_selects_the_keywords(source, signature, expected):
    assert make(source(RECORDING.format(signature=signature), "record")).given == expected


def test_a_width_reaches_the_factory(source):
    assert make(source(RECORDING.format(signature="width"), "record"), width=0.5).given == {"width": 0.5}


def test_a_class_is_a_factory_too(source):
    text = "from torch import nn\nclass Net(nn.Flatten):\n    def __init__(self):\n        super().__init__()\n"
    assert type(make(source(text, "Net"), classes=64)).__name__ == "Net"


def test_dataclasses_with_postponed_annotations_load(source):
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    text = f"{head}@dataclass\nclass Settings:\n    depth: int = 3\n{LINEAR.replace('from torch', 'from torch')}"
    assert isinstance(make(source(text, "linear")), nn.Module)


def test_an_edit_is_seen(source):
    make(source(LINEAR, "linear"))
    with pytest.raises(HarpError, match="no function or class 'linear'"):
        make(source("other = 1", "linear"))


@pytest.mark.parametrize(
    ("text", "factory", "message"),
    [
        (LINEAR, "liner", "no function or class 'liner' in net.py; did you mean 'linear'"),
        (LINEAR, "", "no function or class '' in net.py; there are: linear"),
        ("linear = 3", "linear", "there are: none"),
        ("def f(:", "f", "cannot load .*SyntaxError"),
        ("import not_there_at_all", "f", "cannot load .*ModuleNotFoundError"),
        (
            "def f(num_classes): ...",
            "f",
            "raised TypeError: .*num_classes.*it may take: classes, channels, size, width",
        ),
        ("def f(): raise KeyError('depth')", "f", "raised KeyError: 'depth'"),
        ("def f(): return 3", "f", "returned an object of type int; expected an nn.Module"),
        (LINEAR.replace("classes))", "1000))"), "linear", "1000 logits for a data set of 10 classes"),
    ],
)
def test_a_fault_in_the_file_is_named(source, text, factory, message):
    with pytest.raises(HarpError, match=message):
        make(source(text, factory))


def test_a_width_the_factory_cannot_take_is_refused(source):
    with pytest.raises(HarpError, match="takes no width"):
        make(source(LINEAR, "linear"), width=0.5)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HarpError, match=r"there is no file .*absent\.py"):
        load_own(f"{tmp_path}/absent.py:net", "model")


def test_a_file_that_fails_leaves_no_module_behind(source):
    with pytest.raises(HarpError):
        load_own(source("1 / 0", "f"), "model")
    assert not [name for name in sys.modules if name.startswith("harp_own_net_")]
