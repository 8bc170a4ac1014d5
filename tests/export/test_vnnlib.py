"""Properties as another reader understands them: the box is the ball, the question is of every other class."""

import csv
import re
from fractions import Fraction
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.export import onnx_session, to_vnnlib
from harp.export.pack import small
from harp.graph import Interpreter
from harp.threats import Threat

EPS = {"8/255": Fraction(8, 255), "0.031": Fraction(31, 1000), "0.5": Fraction(1, 2)}


def parsed(text):
    """(x, y) of a VNN-LIB file: for each input its least and most, and the pairs of outputs (above, below) asked for.

    Lists nested by brackets, comments gone; anything but what the format's examples have is an error.
    """
    words = re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text))
    depth: list[Any] = [[]]
    for word in words:
        if word == "(":
            depth.append([])
        elif word == ")":
            done = depth.pop()
            depth[-1].append(done)
        else:
            depth[-1].append(word)
    (forms,) = depth
    least: dict[str, Fraction] = {}
    most: dict[str, Fraction] = {}
    names, pairs = [], []
    for form in forms:
        if form[0] == "declare-const":
            assert form[2] == "Real"
            names.append(form[1])
            continue
        assert form[0] == "assert"
        op, *rest = form[1]
        if op == "or":
            for part in rest:
                head, (how, above, below) = part
                assert (head, how) == ("and", ">=")
                pairs.append((int(above.removeprefix("Y_")), int(below.removeprefix("Y_"))))
        else:
            assert {">=": least, "<=": most}[op].setdefault(rest[0], Fraction(rest[1])) == Fraction(rest[1])
    inputs = [name for name in names if name.startswith("X_")]
    assert names == [f"X_{i}" for i in range(len(inputs))] + [f"Y_{i}" for i in range(len(names) - len(inputs))]
    assert set(inputs) == set(least) == set(most)
    return [(least[name], most[name]) for name in inputs], pairs, len(names) - len(inputs)


def network():
    """Two of its five filters have no weights, so that what is exported is smaller."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 4)).eval()
    with torch.no_grad():
        model.get_submodule("0").get_parameter("weight")[:2] = 0
    return model


@pytest.fixture(scope="module")
def graph():
    return small(network(), torch.rand(2, 1, 4, 4)).graph


def images(count=12):
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1)).mul(255).round() / 255


@pytest.mark.parametrize("eps", ["8/255", "0.031", "0.5"])
def test_the_box_is_the_ball_and_the_question_is_of_every_other_class(tmp_path, graph, eps):
    x = images()
    y = network()(x).argmax(1)
    y[3] = (y[3] + 1) % 4
    told = to_vnnlib(graph, x, y, Threat(eps=eps), tmp_path / "here")
    assert told.left_out == (3,)
    assert told.asked == (0, 1, 2, *range(4, 12))
    for place in told.asked:
        box, pairs, classes = parsed((tmp_path / "here" / "vnnlib" / f"image-{place:05d}.vnnlib").read_text())
        assert classes == 4
        assert sorted(pairs) == [(other, int(y[place])) for other in range(4) if other != y[place]]
        for (low, high), pixel in zip(box, x[place].flatten().tolist(), strict=True):
            least, most = max(Fraction(0), Fraction(pixel) - EPS[eps]), min(Fraction(1), Fraction(pixel) + EPS[eps])
            # The ball and, by less than a float64 could tell, no more.
            assert 0 <= least - low < Fraction(1, 10**17)
            assert 0 <= high - most < Fraction(1, 10**17)


def test_the_list_names_files_that_are_there_and_the_network_in_them_is_the_small_one(tmp_path, graph):
    x = images()
    to_vnnlib(graph, x, network()(x).argmax(1), Threat(), tmp_path)
    rows = list(csv.reader((tmp_path / "instances.csv").read_text().splitlines()))
    assert len(rows) == len(list((tmp_path / "vnnlib").iterdir())) == 12
    assert all((tmp_path / model).is_file() and (tmp_path / asked).is_file() for model, asked, _ in rows)
    assert all(float(seconds) > 0 for _, _, seconds in rows)
    proto = onnx.load(tmp_path / "onnx" / "network.onnx")
    assert {node.op_type for node in proto.graph.node} <= {"Conv", "Relu", "Reshape", "Flatten", "Gemm"}
    assert [size.dim_value for size in proto.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 4, 4]
    assert [3, 1, 3, 3] in [list(tensor.dims) for tensor in proto.graph.initializer]
    answer = onnx_session(tmp_path / "onnx" / "network.onnx")
    logits = torch.cat([answer(image) for image in torch.split(x, 1)])
    assert torch.allclose(logits, Interpreter(graph)(x), atol=1e-6)
    assert torch.allclose(logits, network()(x), atol=1e-5)


def test_what_cannot_be_asked_is_refused(tmp_path, graph):
    x = images(2)
    y = network()(x).argmax(1)
    with pytest.raises(HarpError, match=r"boxes, balls of the inf-norm; expected one, and the threat is L2"):
        to_vnnlib(graph, x, y, Threat(2, 0.5), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").touch()
    with pytest.raises(HarpError, match=r"old is not empty"):
        to_vnnlib(graph, x, y, Threat(), tmp_path / "old")
    with pytest.raises(HarpError, match=r"answers none of 2 images rightly"):
        to_vnnlib(graph, x, (y + 1) % 4, Threat(), tmp_path / "wrong")
    assert not (tmp_path / "wrong" / "instances.csv").exists()
