"""What the world around harp may be set to: a matrix of settings and entry points, each cell as without the setting."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

import harp
from harp.ambient import deterministic, full_float32, ordinary, pinned, precise, usable
from harp.attacks import Attack, Quick
from harp.cli import main
from harp.evaluation import correct
from harp.randomness import Keyed

THREAT = harp.Threat(eps=0.2)
L2 = harp.Threat(norm=2, eps=1.0)


def network() -> nn.Sequential:
    draws = torch.Generator().manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
    return model.eval()


def images(n: int = 6) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, network()(x).argmax(1)


NET, (X, Y) = network(), images()


def fresh() -> nn.Sequential:
    """A copy whose weights are no inference tensors, wherever it is made."""
    with torch.inference_mode(False):
        return copy.deepcopy(NET)


def noise() -> Keyed:
    return Keyed.of(torch.arange(len(X), device="cpu"), 0, "test")


# Settings: what somebody else's program may have around a call of harp.


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def strictly_deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def nested_autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", torch.bfloat16):
        NET(X)  # its weights are cast, and kept, until the outer region ends
        yield


SETTINGS: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": nested_autocast,
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: default_device("meta"),
    "with torch.device": lambda: torch.device("meta"),
    "matmul precision": lambda: matmul_precision("medium"),
    "deterministic": strictly_deterministic,
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
    "cached parametrisations": parametrize.cached,
}

# Entry points, each as a function to values that are compared bit for bit.


def attack(made: harp.attacks.Attack, threat: harp.Threat = THREAT) -> Callable[[], Any]:
    return lambda: made(NET, X, Y, threat, noise())


def search(model: nn.Module) -> harp.Harp:
    return harp.Harp(
        harp.find_sites(model), harp.Budget(keep=0.5), options=harp.HarpOptions(gamma=0.1), course=harp.Course(2)
    )


def fitted() -> Any:
    model = fresh()
    pruner, data = search(model), harp.Loader([(X, Y), (X.flip(0), Y.flip(0))], "cpu")
    objective, optimizer = harp.PGDAT(harp.PGD(steps=2), THREAT), harp.sgd(model, pruner, lr=0.1)
    harp.fit(model, data, objective=objective, ascent=harp.AWP(), optimizer=optimizer, pruner=pruner, until=3)
    learned = {name: score.detach().clone() for name, score in pruner.scores.items()}
    return learned, dict(pruner.settle()), model.state_dict()


def attached() -> Any:
    """The pruner is made and attached inside; the loop is somebody else's, and what it is set to is his."""
    model = fresh()
    pruner = search(model)
    optimizer = harp.sgd(model, pruner, lr=0.1)
    pruner.attach(optimizer)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        cross_entropy(model(X), Y).backward()
    with torch.autocast("cpu", enabled=False):
        optimizer.step()
    return dict(pruner.settle()), model.state_dict()


def evaluated() -> Any:
    attacks: dict[str, Attack] = {"pgd": harp.PGD(steps=3), "square": harp.Square(queries=10)}
    found = harp.evaluate(NET, [(X, Y)], attacks, THREAT)
    return dict(found.flags), found.distance, found.broken_by


def unit_costs() -> Any:
    units = harp.find_units(NET, X[:1], "channels")
    return units.names, units.sizes, units.cost("macs").linear.tolist(), list(units.first_scores().values())


def removed() -> Any:
    units = channels()
    keep = {units.names[0]: torch.tensor([True, False, True, False], device="cpu")}
    small = harp.remove(NET, units.groups, keep)
    shapes = {name: tensor.shape for name, tensor in small.state_dict().items()}
    other = copy.deepcopy(NET)
    harp.resize(other, shapes)
    other.load_state_dict(small.state_dict())
    return shapes, small.state_dict(), other.state_dict()


@cache
def channels() -> harp.ChannelUnits:
    with precise(), torch.inference_mode(False):
        units = harp.find_units(NET, X[:1], "channels")
    assert isinstance(units, harp.ChannelUnits)
    return units


@cache
def package() -> str:
    folder = TemporaryDirectory()
    FOLDERS.append(folder)
    with precise():
        harp.pack(NET, X, folder.name + "/net.safetensors")
    return folder.name + "/net.safetensors"


FOLDERS: list[TemporaryDirectory[str]] = []


def packed() -> Any:
    with TemporaryDirectory() as folder:
        difference = harp.pack(NET, X, folder + "/net.safetensors").difference
        return difference, Path(folder, "net.safetensors").read_bytes()


def baked() -> Any:
    masks = harp.Masks({"5.weight": torch.ones(3, 16, dtype=torch.bool, device="cpu")})
    with TemporaryDirectory() as folder:
        return harp.bake(NET, masks, folder, [(X, Y)])["sha256"]


def loaded() -> Any:
    model = harp.load(package(), 1)
    return [model(X[:n]) for n in (1, 3, 6)], attack_of(model.module)


def attack_of(model: nn.Module) -> Tensor:
    return harp.PGD(steps=1)(model, X, Y, THREAT, noise())


def on_average() -> Any:
    """A mean over rows alone is no layer of the engine, so PyTorch computes it."""
    return mixed()(X)


@cache
def mixed() -> harp.Deployed:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(1, 4, 3), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.linear(self.conv(x).cumsum(3).mean(3).flatten(1)))

    with precise(), TemporaryDirectory() as folder:
        harp.pack(Rows().eval(), X, folder + "/net.safetensors")
        return harp.load(folder + "/net.safetensors", 1)


def benchmarked() -> Any:
    return harp.benchmark(digits_net(), n_examples=4, dataset="digits", eps="0.1", engine="harp", doubts=0)


@cache
def digits_net() -> nn.Module:
    with pinned():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()


def exported() -> Any:
    with TemporaryDirectory() as folder:
        return harp.to_onnx(NET, X, folder + "/net.onnx")["sha256"]


def inspected() -> str:
    with redirect_stdout(StringIO()) as said:
        main(["inspect", "digits_cnn", "--channels", "1", "--size", "8"])
    return said.getvalue()


@cache
def harp_engine() -> harp.Deployed:
    with pinned():
        return harp.load(package(), 1)


POINTS: dict[str, Callable[[], Any]] = {
    "pgd": attack(harp.PGD(steps=3, restarts=2)),
    "apgd": attack(harp.APGD(steps=4)),
    "fab": attack(harp.FAB(steps=3)),
    "square": attack(harp.Square(queries=10), L2),
    "cw-l2": attack(harp.CWL2(steps=5, searches=2), L2),
    "nearest": lambda: harp.FAB(steps=3).nearest(NET, X, Y, THREAT, noise()),
    "evaluate": evaluated,
    "correct": lambda: correct(NET, [(X, Y)], harp.PGD(steps=2), THREAT, 0),
    "fit": fitted,
    "attach": attached,
    "find_sites": lambda: [(site.name, site.size) for site in harp.find_sites(NET)],
    "trace_macs": lambda: harp.trace_macs(NET, X[:1]),
    "find_units": unit_costs,
    "remove and resize": removed,
    "bake": baked,
    "load": loaded,
    "the engine": lambda: harp_engine()(X),
    "the engine with PyTorch": on_average,
    "load_model": lambda: harp.load_model(package())(X),
}
# A second or two each: they stand in a few columns only.
LONG: dict[str, Callable[[], Any]] = {
    "examine": lambda: harp.examine(NET, X, Y, THREAT),
    "pack": packed,
    "quick": attack(Quick(harp.APGD(steps=3))),
    "to_onnx": exported,
    "a command": inspected,
    "benchmark": benchmarked,
}
HARD = ("inference_mode", "autocast", "default dtype bfloat16", "default device")


@cache
def as_ever(point: str) -> Any:
    return {**POINTS, **LONG}[point]()


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, Tensor):
        return found.dtype == expected.dtype and found.device == expected.device and torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple) and not isinstance(expected, torch.Size):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected)


def state() -> tuple[Any, ...]:
    """All that is pinned, as it is now."""
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        *(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")),
        depth,
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.is_anomaly_enabled(),
        torch.get_deterministic_debug_mode(),
        parametrize._cache_enabled,
    )


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_entry_point_does_the_same_under_every_setting(setting: str, point: str):
    expected = as_ever(point)
    with SETTINGS[setting]():
        before = state()
        found = POINTS[point]()
        assert state() == before
    assert same(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("point", LONG)
@pytest.mark.parametrize("setting", HARD)
def test_so_do_those_that_take_longer(setting: str, point: str):
    expected = as_ever(point)
    with SETTINGS[setting]():
        found = LONG[point]()
    assert same(found, expected)


def test_a_package_is_written_alike_under_all_settings_at_once():
    expected = as_ever("pack")
    with ExitStack() as stack:
        for setting in HARD:
            stack.enter_context(SETTINGS[setting]())
        found = packed()
    assert same(found, expected)


@pytest.mark.parametrize("pin", [pinned, precise, ordinary], ids=["pinned", "precise", "ordinary"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_what_was_set_is_put_back_even_after_an_exception(setting: str, pin: Callable[[], Any]):
    with SETTINGS[setting]():
        before = state()
        with pytest.raises(KeyError), pin():
            raise KeyError
        assert state() == before


def test_both_of_pytorchs_interfaces_for_float32_are_put_back():
    if not hasattr(torch._C, "_get_fp32_precision_getter"):
        return  # before torch 2.9 there is one, which the matrix has
    places = [("generic", "all"), ("cuda", "conv"), ("mkldnn", "conv"), ("mkldnn", "matmul"), ("mkldnn", "rnn")]
    mkldnn: Any = torch.backends.mkldnn
    mkldnn.conv.fp32_precision = "bf16"
    try:
        before = [torch._C._get_fp32_precision_getter(*place) for place in places]
        assert before[2] == "bf16"
        with full_float32():
            assert [torch._C._get_fp32_precision_getter(*place) for place in places] == ["none"] * 5
        assert [torch._C._get_fp32_precision_getter(*place) for place in places] == before
    finally:
        mkldnn.conv.fp32_precision = "none"


def test_deterministic_algorithms_are_asked_for_and_then_no_more():
    before = torch.get_deterministic_debug_mode()
    with deterministic():
        assert torch.get_deterministic_debug_mode() == 1
    assert torch.get_deterministic_debug_mode() == before


def test_training_inside_a_region_leaves_it_no_old_weights():
    model = copy.deepcopy(NET)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(X)
        data, pruner = harp.Loader([(X, Y)], "cpu"), harp.Pruner()
        harp.fit(
            model, data, objective=harp.Natural(), optimizer=harp.sgd(model, pruner, lr=1.0), pruner=pruner, until=1
        )
        found = model.eval()(X)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(X)
    assert torch.equal(found, expected)


def test_autocast_in_a_loop_of_ones_own_goes_on():
    """The forward pass is bfloat16 around an attack that is float32, and the step is outside, as README says."""
    model = copy.deepcopy(NET).train()
    pruner = search(model)
    optimizer = harp.sgd(model, pruner, lr=0.1)
    pruner.attach(optimizer)
    plainly = harp.PGD(steps=2)(model, X, Y, THREAT, noise())
    with torch.autocast("cpu", torch.bfloat16):
        adv = harp.PGD(steps=2)(model, X, Y, THREAT, noise())
        logits = model(adv)
        loss = cross_entropy(logits, Y)
    assert torch.equal(adv, plainly)
    assert logits.dtype == torch.bfloat16
    before = pruner.scores["5.weight"].detach().clone()
    loss.backward()
    optimizer.step()
    assert not torch.equal(pruner.scores["5.weight"], before)


def test_a_network_with_autocast_inside_is_measured_as_it_is():
    class Inside(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                seen.append(logits := NET(x))
            return cast(Tensor, logits.float())

    seen: list[Tensor] = []
    harp.evaluate(Inside(), [(X, Y)], {}, THREAT)
    assert seen[0].dtype == torch.bfloat16


def calls(model: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    pruner = harp.Pruner()
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters())
    return {
        "attack": lambda: harp.PGD(steps=1)(model, x, Y, THREAT, noise()),
        "evaluate": lambda: harp.evaluate(model, [(x, Y)], {"pgd": harp.PGD(steps=1)}, THREAT),
        "examine": lambda: harp.examine(model, x, Y, THREAT),
        "fit": lambda: harp.fit(
            model, harp.Loader([(x, Y)], "cpu"), objective=harp.Natural(), optimizer=optimizer, pruner=pruner, until=1
        ),
        "find_units": lambda: harp.find_units(model, x),
        "pack": lambda: harp.pack(model, x, "nowhere/net.safetensors"),
        "bake": lambda: harp.bake(model, None, "nowhere", [(x, Y)]),
    }


@pytest.mark.parametrize("call", calls(NET, X))
def test_fake_tensors_are_refused(call: str):
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(harp.HarpError, match="may hold no numbers"):
        calls(NET, X)[call]()


@pytest.mark.parametrize("call", calls(NET, X))
def test_transforms_are_refused(call: str):
    made = calls(NET, X)[call]

    def transformed(x: Tensor) -> Tensor:
        made()
        return x.sum()

    with pytest.raises(harp.HarpError, match=r"inside a torch\.func transform"):
        torch.vmap(transformed)(X)
    with pytest.raises(harp.HarpError, match=r"inside a torch\.func transform"):
        torch.func.grad(transformed)(X)


def test_the_engine_takes_nothing_without_numbers():
    engine = harp_engine()
    with pytest.raises(harp.HarpError, match="without numbers"), FakeTensorMode(allow_non_fake_inputs=True):
        engine(X)
    with pytest.raises(harp.HarpError, match="without numbers"):
        engine(FakeTensorMode().from_tensor(X))
    with pytest.raises(harp.HarpError, match="without numbers"):
        torch.vmap(engine)(X[:, None])
    with pytest.raises(harp.HarpError, match="without numbers"):
        torch.jit.trace(engine, X, check_trace=False)
    with pytest.raises(harp.HarpError, match="meta"):
        engine(X.to("meta"))
    with pytest.raises(harp.HarpError, match="sparse"):
        engine(X.to_sparse())


def test_a_lazily_negated_image_is_read_as_what_it_says():
    negated = torch.complex(torch.zeros_like(X), -X).conj().imag
    assert negated.is_neg()
    assert torch.equal(harp_engine()(negated), harp_engine()(X))


def test_a_network_made_in_inference_mode_is_refused_and_its_copy_is_not():
    with torch.inference_mode():
        model = copy.deepcopy(NET)
    with pytest.raises(harp.HarpError, match=r"inference_mode.*copy\.deepcopy"):
        harp.PGD(steps=1)(model, X, Y, THREAT, noise())
    assert torch.equal(attack_of(copy.deepcopy(model)), attack_of(NET))


def test_images_made_in_inference_mode_are_copied():
    with torch.inference_mode():
        x, y = X.clone(), Y.clone()
    assert torch.equal(harp.PGD(steps=1)(NET, x, y, THREAT, noise()), attack_of(NET))
    assert same(
        dict(harp.evaluate(NET, [(x, y)], {}, THREAT).flags), dict(harp.evaluate(NET, [(X, Y)], {}, THREAT).flags)
    )
    assert harp.trace_macs(NET, x) == harp.trace_macs(NET, X)
    assert usable(X) is X


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_images_too_coarse_for_an_attack_are_refused(dtype: torch.dtype):
    model, x = copy.deepcopy(NET).to(dtype), X.to(dtype)
    for call in ("attack", "evaluate", "examine"):
        with pytest.raises(harp.HarpError, match="too coarse"):
            calls(model, x)[call]()


@pytest.mark.parametrize("call", ["attack", "evaluate", "examine", "find_units", "fit", "pack"])
def test_a_network_of_another_type_than_its_images_is_refused(call: str):
    with pytest.raises(harp.HarpError, match="should be the same"):
        calls(copy.deepcopy(NET).double(), X)[call]()


def test_a_network_on_meta_is_refused():
    with pytest.raises(harp.HarpError, match="`meta`"):
        harp.evaluate(copy.deepcopy(NET).to("meta"), [(X.to("meta"), Y.to("meta"))], {}, THREAT)


def test_curves_are_the_same_under_another_default_device():
    distances = torch.tensor([0.0, 0.1, 0.3, torch.inf])
    expected = harp.security_curve(distances, [0.1, 0.2])
    with default_device("meta"), default_dtype(torch.float64):
        found = harp.security_curve(distances, [0.1, 0.2])
    assert found.accuracy.tolist() == expected.accuracy.tolist() == [0.5, 0.5]


def test_batches_are_the_same_under_another_default_device():
    def batches() -> list[Tensor]:
        part = harp.data.Images(X, Y)
        data = harp.Resident(part, 3, 0, device="cpu", flip=True, pad=1)
        return [x for x, _ in (*data.once(), *(batch for batch, _ in zip(data.after(0), range(2), strict=False)))]

    expected = batches()
    with default_device("meta"), default_dtype(torch.float64):
        assert same(batches(), expected)
