"""Odd networks through every door: what comes out is right, or one sentence says why not. A traceback is neither."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import harp
from harp.wrappers import unwrapped
from tests.pace import quick
from tests.sparsity.agreeing import agree, half

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

DATA = [(torch.rand(6, 2, 4, 4, generator=torch.Generator().manual_seed(i)), torch.arange(6) % 3) for i in range(2)]
X = DATA[0][0]


class Net(nn.Module):
    """50 weights: 2 x 4, 4 x 6 and, in the head, 6 x 3."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.body, self.head = (
            nn.Conv2d(2, 4, 1),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 6, 1),
            nn.Linear(6, 3),
        )

    def features(self, x):
        return self.body(self.norm(self.stem(x)).relu()).relu()

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Aliased(Net):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(self.stem, self.norm, nn.ReLU(), self.body, nn.ReLU())

    def features(self, x):
        return self.layers(x)


class Tied(Net):
    """A second layer with the body's weight, which takes six channels to six."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(self.features(x).mean((2, 3))).relu()).relu())


class Keeps(Net):
    """Keeps its last feature map with the graph behind it, and another by a hook."""

    def __init__(self):
        super().__init__()
        self.seen = SimpleNamespace()
        self.stem.register_forward_hook(lambda module, inputs, output: setattr(self.seen, "maps", [output]))

    def forward(self, x):
        self.last = self.features(x)
        return self.head(self.last.mean((2, 3)))


def kept():
    model = Keeps()
    model(X)
    return model


class Auxiliary(Net):
    """A second head in train mode."""

    def __init__(self):
        super().__init__()
        self.second = nn.Linear(6, 3)

    def forward(self, x):
        x = self.features(x).mean((2, 3))
        return (self.head(x), self.second(x)) if self.training else self.head(x)


class Low(Net):
    """Its middle computes in bfloat16."""

    def __init__(self):
        super().__init__()
        self.body.bfloat16()

    def features(self, x):
        return self.body(self.norm(self.stem(x)).relu().bfloat16()).relu().float()


class Outside(Net):
    """A tensor that is no part of its state."""

    def __init__(self):
        super().__init__()
        self.scale = torch.full((6,), 2.0)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)) * self.scale)


def frozen(*names):
    model = Net()
    for name in names:
        model.get_submodule(name).requires_grad_(False)
    return model


def wrapped(how):
    model = Net()
    for name in ("stem", "body", "head"):
        how(model.get_submodule(name))
    model(X)
    return model


def folded(how):
    return harp.plain(wrapped(how))


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 0.5)


COMPUTED = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "old weight norm": weight_norm,
    "old spectral norm": spectral_norm,
    "torch's prune": pruned,
}


def sites(model):
    return harp.find_sites(model)


def find_units(model):
    return harp.find_units(model, X[:1], "channels")


def search(model):
    return harp.Harp(sites(model), harp.Budget(0.5), options=harp.HarpOptions(gamma=0.1), course=harp.Course(2))


def check_settled(model, pruner):
    masks = pruner.settle()
    assert masks.kept == round(0.5 * masks.total)
    assert all(not site.param[~masks[site.name]].any() for site in pruner.sites)
    return masks


def fit(model):
    pruner = search(model)
    optimizer, data = harp.sgd(model, pruner, lr=0.05), harp.Loader(DATA, "cpu")
    harp.fit(model, data, objective=harp.Natural(), optimizer=optimizer, pruner=pruner, until=2)
    return check_settled(model, pruner)


def attach(model):
    pruner = search(model)
    optimizer = harp.sgd(model, pruner, lr=0.05)
    with pruner.attach(optimizer):
        for x, y in DATA:
            optimizer.zero_grad()
            out = model.train()(x)
            nn.functional.cross_entropy(out[0] if isinstance(out, tuple) else out, y).backward()
            optimizer.step()
    return check_settled(model, pruner)


def remove(model):
    groups, model = find_units(model).groups, unwrapped(model)
    assert agree(model, groups, half(groups), X)


def bake(model, folder):
    found = sites(model)
    masks = harp.ScoresOnly(found, harp.Budget(0.5)).settle()
    said = harp.bake(model, masks, folder, DATA)
    assert (said["kept"], said["total"]) == (masks.kept, masks.total)


def pack(model, folder):
    harp.pack(model, X, folder / "p.safetensors")
    with torch.no_grad():
        assert torch.allclose(harp.load(folder / "p.safetensors")(X), model.eval()(X).float(), atol=1e-5)


def onnx(model, folder):
    assert harp.to_onnx(model, X, folder / "m.onnx")["difference"] < 1e-4


def evaluate(model):
    flags = harp.evaluate(model, DATA, {"pgd": harp.PGD(steps=1)}, harp.Threat(eps=0.1)).flags
    with torch.no_grad():
        right = torch.cat([model.eval()(x).argmax(1) == y for x, y in DATA])
    assert torch.equal(flags["clean"], right)


DOORS = {f.__name__: f for f in (sites, find_units, fit, attach, remove, bake, pack, onnx, evaluate)}
PRUNING = ("sites", "find_units", "fit", "attach", "remove", "bake")


@dataclass(frozen=True)
class Odd:
    """A network, the doors at which it is refused, with a part of the sentence, and which doors are tried."""

    make: Callable[[], nn.Module]
    refused: dict[str, str] = field(default_factory=dict)
    doors: tuple[str, ...] = tuple(DOORS)


def computed(how) -> Odd:
    sentence = "stem.weight is parametrised: .*; prune harp.plain(model), a copy with weights of its own, or exclude it"
    return Odd(lambda: wrapped(how), dict.fromkeys(PRUNING, sentence))


TUPLE = "the network returns an object of type tuple; expected a tensor of logits"
FLOAT64 = "channels are verified in float64, where the network fails"
TRAINED = (*PRUNING, "evaluate")

ODD = {
    "plain": Odd(Net),
    "aliased": Odd(Aliased),
    "tied": Odd(Tied),
    "keeps activations": Odd(kept),
    "frozen stem": Odd(lambda: frozen("stem", "norm")),
    "all frozen": Odd(
        lambda: frozen("stem", "norm", "body", "head"),
        dict.fromkeys(PRUNING, "no weight of Net may be pruned: all 3 that are selected are frozen"),
    ),
    "auxiliary head": Odd(
        Auxiliary,
        {"find_units": TUPLE, "remove": TUPLE, "fit": "the network returns an object of type tuple in which 2 tensors"},
        TRAINED,
    ),
    "bfloat16 inside": Odd(Low, {"find_units": FLOAT64, "remove": FLOAT64}, TRAINED),
    "state outside": Odd(Outside, doors=TRAINED),
    "DataParallel": Odd(lambda: nn.DataParallel(Net()), doors=TRAINED),
    "compiled": Odd(lambda: cast(nn.Module, torch.compile(Net(), backend="eager")), doors=TRAINED),
    "TorchScript": Odd(
        lambda: torch.jit.script(Net()),
        dict.fromkeys(PRUNING, "RecursiveScriptModule is TorchScript, which is fixed as it is; prune the module"),
        TRAINED,
    ),
    **{name: computed(how) for name, how in COMPUTED.items()},
    **{f"{name}, folded": Odd(partial(folded, how)) for name, how in COMPUTED.items()},
}


# A file of either kind takes torch.export some seconds, and what is in the way of one is in the way of the other.
ALL = [(name, door) for name, odd in ODD.items() for door in odd.doors]
QUICK = [(name, door) for name, door in ALL if door != "onnx" or name in ("plain", "aliased")]


@pytest.mark.parametrize("case", quick(QUICK, ALL), ids=" ".join)
def test_right_or_refused_in_one_sentence(case, tmp_path):
    name, door = case
    torch.manual_seed(0)
    odd = ODD[name]
    model = odd.make()
    arguments = (model, tmp_path) if door in ("bake", "pack", "onnx") else (model,)
    if door not in odd.refused:
        DOORS[door](*arguments)
        return
    with pytest.raises(harp.HarpError) as refusal:
        DOORS[door](*arguments)
    words = str(refusal.value)
    first, _, last = odd.refused[door].partition(".*")
    assert words.startswith(first)
    assert last in words
    assert "\n" not in words


def test_the_weights_that_are_found():
    assert [site.name for site in sites(Aliased())] == ["stem.weight", "body.weight", "head.weight"]
    assert [site.name for site in sites(Tied())] == ["stem.weight", "body.weight", "head.weight", "first.weight"]
    assert [site.name for site in sites(frozen("stem"))] == ["body.weight", "head.weight"]
    assert sum(site.size for site in sites(Tied())) == 8 + 24 + 18 + 36
