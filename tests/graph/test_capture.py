import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harp.errors import HarpError
from harp.graph import Ref, capture, check, run
from harp.modes import evaluating

X = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Whatever function of images, as a network with a convolution and a head."""

    def __init__(self, function=lambda self, x: x, classes=4):
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv = nn.Conv2d(2, 3, 3)
        self.bn = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, classes)

    def forward(self, x):
        x = self.function(self, x)
        return self.head(self.bn(self.conv(x)).relu().mean((2, 3)))


def named(graph, op):
    """The first node of an operator."""
    return next(node for node in graph.nodes if node.op == op)


def test_every_argument_is_spelled_out_and_tensors_keep_their_names():
    graph = capture(Net(), X)
    assert [node.op for node in graph.nodes] == ["conv2d", "batch_norm", "relu", "mean.dim", "linear"]
    conv, norm, _, mean, linear = graph.nodes
    assert conv.args == (Ref(graph.input), Ref("conv.weight"), Ref("conv.bias"), (1, 1), (0, 0), (1, 1), 1)
    stats = tuple(Ref(f"bn.{name}") for name in ("weight", "bias", "running_mean", "running_var"))
    assert norm.args == (Ref(conv.name), *stats, False, 0.1, 1e-5, False)
    assert mean.args[1:] == ((2, 3), False, None)
    assert linear.name == graph.output
    assert graph.shape == (2, 6, 6)
    assert graph.batch is None
    assert set(graph.tensors) == {name for name in Net().state_dict() if "num_batches" not in name}


def test_the_model_is_left_as_it_was_and_the_graph_is_a_copy():
    model = Net()
    model.train()
    model.bn.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = capture(model, X)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        model.conv.weight.zero_()
    assert torch.equal(graph.tensor("conv.weight"), before["conv.weight"])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.second = nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).relu())


def test_a_tied_weight_is_there_once():
    graph = capture(Tied(), torch.rand(2, 6))
    assert list(graph.tensors) == ["first.weight"]
    assert [node.args[1] for node in graph.nodes if node.op == "linear"] == [Ref("first.weight")] * 2


def test_what_has_no_effect_in_eval_mode_is_gone():
    model = nn.Sequential(nn.Dropout(), nn.Identity(), nn.Flatten(), nn.Linear(72, 4), nn.Dropout())
    ops = [node.op for node in capture(model, X).nodes]
    assert [op for op in ops if op != "sym_size.int"] == ["view", "linear"]


def scaled(_, x):
    return (x * 2 + 1).div_(3).sub_(0.5).clamp_(0, 1)


def test_numbers_and_steps_in_place_become_functions_of_numbers():
    ops = [node.op for node in capture(Net(scaled), X).nodes]
    assert ops[:5] == ["mul.Scalar", "add.Scalar", "div.Scalar", "sub.Scalar", "clamp"]


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_in_words_is_padding_in_pixels(kernel, padding):
    model = nn.Sequential(nn.Conv2d(2, 3, kernel, padding=padding), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    graph = capture(model, X)
    with torch.no_grad():
        assert torch.equal(run(graph, X), model(X))
    even = kernel % 2 == 0 and padding == "same"
    assert named(graph, "conv2d.padding" if even else "conv2d").name == "conv2d"


def test_a_pool_without_stride_moves_by_its_kernel():
    model = nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(2, 4))
    graph = capture(model, X)
    assert named(graph, "max_pool2d").args[1:] == ((2, 2), (2, 2), (0, 0), (1, 1), False)
    assert named(graph, "avg_pool2d").args[1:3] == ((3, 3), (3, 3))


def test_a_network_that_fixes_the_number_of_images_takes_one_at_a_time():
    def fixed(_, x):
        return x if len(x) < 2 else x.flip(0)[: len(x)] if len(x) > 7 else x * 1

    model = Net(fixed)
    graph = capture(model, X)
    check(graph)
    with torch.no_grad(), evaluating(model):
        expected = torch.cat([model(x[None]) for x in X])
    assert graph.batch == 1
    assert torch.allclose(run(graph, X), expected, atol=1e-6)


class Shaped(nn.Module):
    """A body that is told how many images there are."""

    def __init__(self, count):
        super().__init__()
        self.count, self.body = count, Net()

    def forward(self, x):
        return self.body(x.view(self.count(x), 2, 6, 6))


class Anyhow(nn.Module):
    """A wrapper that spells out no argument, as many do."""

    def __init__(self, model):
        super().__init__()
        self.module = model

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


OPEN = {
    "len": lambda: Shaped(len),
    "int": lambda: Shaped(lambda x: int(x.shape[0])),
    "size": lambda: Shaped(lambda x: x.size(0)),
    "parallel": lambda: nn.DataParallel(Net()),
    "compiled": lambda: torch.compile(Net(), backend="eager"),
    "inside": lambda: nn.Sequential(nn.Identity(), nn.DataParallel(Net())),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(Net()),
    "args": lambda: Anyhow(Net()),
}


@pytest.mark.parametrize("make", OPEN.values(), ids=OPEN)
def test_any_number_of_images_however_they_are_counted_or_wrapped(make):
    model = make()
    graph = capture(model, X[:1])
    assert graph.batch is None
    check(graph)
    assert torch.allclose(run(graph, X), Net().eval()(X), atol=1e-6)


def test_a_wrapped_networks_tensors_are_called_as_in_the_network():
    assert set(capture(nn.DataParallel(Net()), X).tensors) == set(capture(Net(), X).tensors)


def test_torchscript_is_refused_with_the_way_out():
    with pytest.raises(HarpError, match=r"TorchScript network cannot be captured.*the Python module it was made from"):
        capture(torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(72, 3))), X)


def test_weights_made_of_weights_are_captured_too():
    def standardised(self, x):
        weight = F.batch_norm(self.conv.weight.view(1, 3, -1), None, None, training=True).view_as(self.conv.weight)
        return F.conv2d(x, weight, padding=1)[:, :2]

    model = Net(standardised).eval()
    with torch.no_grad():
        assert torch.equal(run(capture(model, X), X), model(X))


def decides(_, x):
    return x if x.sum() > 0 else -x


def counts(self, x):
    self.bn.running_mean.add_(1)
    return x


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Net(decides), "cannot be captured as a graph"),
        (Net(counts), r"changes bn\.running_mean in eval mode"),
        (nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten()), "other images of a batch"),
        (nn.Sequential(nn.Conv2d(2, 3, 3)), "tensor of 4 dimensions; expected logits"),
        (Net(lambda self, x: torch.fft.fft2(x).real), r"the network \(Net\) uses _?fft"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), "cannot be captured as a graph: RuntimeError"),
    ],
    ids=["decides", "counts", "mixes", "map", "fft", "shapes"],
)
def test_a_network_that_is_no_graph_is_refused(model, words):
    with pytest.raises(HarpError, match=words):
        capture(model, X)


class Two(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), x.amax((2, 3))


def test_two_outputs_are_refused():
    with pytest.raises(HarpError, match="returns 2 values"):
        capture(Two(), X)


class Constant(nn.Module):
    def forward(self, x):
        return torch.zeros(len(x), 3)


def test_logits_without_an_image_are_refused():
    with pytest.raises(HarpError, match="do not depend on its images"):
        capture(Constant(), X)


def test_an_example_without_images_is_refused():
    with pytest.raises(HarpError, match="at least one image"):
        capture(Net(), X[:0])
