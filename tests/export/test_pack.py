from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.export import SlowWarning, deployed, load, pack, verify
from harp.export.pack import same_weights
from harp.graph import capture
from harp.package import Counts, Manifest, count, read, weight_names
from tests.attacks.linear import images
from tests.export.test_agreement import RANDOM, Odd, remembers
from tests.export.test_bake import pruned
from tests.models.test_plain import FORMS, net


def test_the_package_is_the_network(tmp_path):
    model, path = pruned()[0], tmp_path / "small.safetensors"
    made = pack(model, images(5), path)
    assert made.images == 5
    assert made.difference <= 1e-5
    assert made.sizes.bytes == path.stat().st_size
    assert made.manifest.counts is not None
    assert (made.manifest.counts.weights, made.manifest.counts.nominal, made.manifest.counts.budget) == (28, 8, 8)
    package = read(path)
    assert made.manifest.weights == weight_names(package.graph, package.manifest)
    assert made.manifest.counts.effective == count(package.graph, made.manifest.weights)[1]
    assert package.manifest == made.manifest
    assert torch.allclose(load(path)(images(9)), model(images(9)), atol=1e-6)
    assert [file.name for file in tmp_path.iterdir()] == ["small.safetensors"]


def test_a_graph_is_packed_like_the_network_it_was_captured_from(tmp_path):
    model = pruned()[0]
    pack(model, images(2), tmp_path / "model.safetensors")
    pack(capture(model, images(2)), images(2), tmp_path / "graph.safetensors")
    assert (tmp_path / "graph.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_the_promise_is_the_callers_and_the_effect_is_counted(tmp_path):
    about = Manifest(name="mine", counts=Counts(28, 9, 8, 0))
    made = pack(pruned()[0], images(2), tmp_path / "small.safetensors", manifest=about).manifest
    assert made.counts is not None
    assert (made.name, made.counts.budget, made.counts.nominal) == ("mine", 9, 8)
    assert made.counts.effective > 0


@pytest.mark.parametrize("values", ["fp16", "bf16", "int8"])
def test_rounded_values_are_smaller_and_tell_what_they_cost(tmp_path, values):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 3)).eval()
    exact = pack(model, images(8), tmp_path / "exact.safetensors")
    made = pack(model, images(8), tmp_path / "small.safetensors", values)
    assert made.manifest.values == values
    assert made.sizes.bytes < 0.75 * exact.sizes.bytes
    assert 1e-6 < made.difference < 0.1
    x = images(8)
    logits = model(x).detach()
    found = (load(tmp_path / "small.safetensors")(x) - logits).abs().max() / logits.abs().max()
    assert float(found) == pytest.approx(made.difference, rel=1e-3)


def test_a_judges_words_are_in_the_file(tmp_path):
    model, seen = pruned()[0], []

    def judge(deployed):
        seen.append(torch.allclose(deployed(images(3)), model(images(3)), atol=1e-6))
        return {"judged": {"different": 0}}

    path = tmp_path / "small.safetensors"
    made = pack(model, images(2), path, manifest=Manifest(evaluation={"n": 3}), judge=judge)
    assert seen == [True]
    assert read(path).manifest.evaluation == made.manifest.evaluation == {"n": 3, "judged": {"different": 0}}


def test_a_mask_that_leaves_negative_zeros_costs_nothing(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 256), nn.ReLU(), nn.Linear(256, 3)).eval()
    mask = torch.rand(3, 256) < 0.1
    with torch.no_grad():
        model.get_parameter("3.weight").mul_(mask)
    assert (model.get_parameter("3.weight")[~mask].signbit()).any()
    made = pack(model, images(4), tmp_path / "masked.safetensors")
    assert made.manifest.counts is not None
    read_units = int(mask.any(0).sum())  # the others go, with four weights each
    assert made.manifest.counts.effective == 4 * read_units + int(mask.sum())
    with torch.no_grad():
        model.get_parameter("3.weight").copy_(torch.where(mask, model.get_parameter("3.weight"), 0.0))
    pack(model, images(4), tmp_path / "plain.safetensors")
    assert (tmp_path / "plain.safetensors").read_bytes() == (tmp_path / "masked.safetensors").read_bytes()


def test_weights_that_are_not_counted_are_told_apart(tmp_path):
    made = pack(
        pruned()[0], images(2), tmp_path / "small.safetensors", manifest=Manifest(weights=("4.weight",))
    ).manifest
    assert made.counts is not None
    package = read(tmp_path / "small.safetensors")
    whole = count(package.graph, weight_names(package.graph, package.manifest))[1]
    assert 0 < made.counts.effective < made.provenance["nonzeros"] == whole


def collapsed():
    model = pruned()[0]
    with torch.no_grad():
        model[4].weight.zero_()
    return model


def test_a_collapsed_network_is_packed_only_where_asked(tmp_path):
    path = tmp_path / "flat.safetensors"
    with pytest.raises(HarpError, match="the network has collapsed"):
        pack(collapsed(), images(2), path)
    assert not list(tmp_path.iterdir())
    pack(collapsed(), images(2), path, collapsed=True)
    assert torch.allclose(load(path)(images(3)), collapsed()(images(3)), atol=1e-6)


def test_a_file_with_other_logits_is_not_kept(tmp_path, monkeypatch):
    path = tmp_path / "small.safetensors"
    monkeypatch.setattr(deployed.Deployed, "forward", lambda self, x: torch.ones(len(x), 3))
    with pytest.raises(HarpError, match="the package gives other logits"):
        pack(pruned()[0], images(2), path)
    assert not list(tmp_path.iterdir())


def test_weights_are_compared_bit_for_bit():
    graph, other = capture(pruned()[0], images(2)), capture(pruned()[0], images(2))
    same_weights(graph, other)
    name = next(name for name in other.tensors if name.endswith("4.bias"))
    other.tensor(name)[0] = -other.tensor(name)[0] * 0  # a zero of either sign equals the other
    changed = capture(pruned()[0], images(2))
    with pytest.raises(HarpError, match=f"the file's {name} is not the network's"):
        same_weights(other, changed)
    with pytest.raises(HarpError, match="other tensors than the network"):
        same_weights(graph.__class__(graph.input, graph.shape, graph.nodes, graph.output, {}), changed)


@pytest.mark.parametrize("after", [RANDOM["dropout"], remembers], ids=["random", "remembers"])
def test_a_network_that_is_random_or_changes_itself_is_not_packed(tmp_path, after):
    model = nn.Sequential(nn.Flatten(), Odd(after))
    with pytest.raises(HarpError, match=r"random in eval mode|changes 1\.seen when it is asked"):
        pack(model, torch.ones(8, 1, 2, 2), tmp_path / "odd.safetensors")
    assert not list(tmp_path.iterdir())


class Splitting(nn.Module):
    """Asks how many images there are in a way that no tracing sees through."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return torch.stack([self.linear(part.flatten()) for part in x])


def test_a_file_for_one_image_at_a_time_is_told_of(tmp_path):
    path, x = tmp_path / "slow.safetensors", images(4)
    with pytest.warns(SlowWarning, match="answers one image at a time, so that a batch may take ten times as long"):
        made = pack(Splitting(), x, path)
    assert made.batch == 1
    assert torch.allclose(load(path)(x), Splitting()(x), atol=1e-6)
    structure = next(check for check in verify(path) if check.name == "structure")
    assert structure.passed
    assert "answers one image at a time" in structure.found


def test_a_wrapped_network_is_packed_like_the_network(tmp_path):
    model = pruned()[0]
    pack(model, images(2), tmp_path / "model.safetensors")
    assert pack(nn.DataParallel(model), images(2), tmp_path / "wrapped.safetensors").batch is None
    assert (tmp_path / "wrapped.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


class Constants(nn.Module):
    """Two weights of 12 and 9 entries beside all that looks like one: a mean image, a table, a fixed filter, a norm."""

    mean: Tensor
    filter: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 2, 2), 0.5))
        self.register_buffer("filter", torch.full((1, 1, 1, 1), 2.0))
        self.table = nn.Parameter(torch.rand(1, 3))
        self.norm = nn.LayerNorm([1, 2, 2])
        self.layer, self.head = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x):
        x = nn.functional.conv2d(self.norm(x - self.mean), self.filter)
        return self.head(self.layer(x.flatten(1)).relu() + self.table)


def test_only_weights_count_as_weights(tmp_path):
    torch.manual_seed(0)
    made = pack(Constants().eval(), images(3), tmp_path / "p.safetensors").manifest
    assert made.counts == Counts(21, 21, 21, 21)
    assert made.weights is not None
    assert set(made.weights) == {"layer.weight", "head.weight"}
    old = replace(made, weights=None)
    assert {"mean", "table"} < set(weight_names(read(tmp_path / "p.safetensors").graph, old))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("form", FORMS)
def test_computed_weights_are_packed_and_counted_as_they_are_used(tmp_path, form):
    model = net(FORMS[form]).eval()
    x = torch.rand(3, 2, 4, 4)
    made = pack(model, x, tmp_path / "p.safetensors").manifest
    total = 4 * 2 * 9 + 4 * 2 * 4 + 3 * 4
    kept = {"pruned": total // 2, "pruned twice": total // 4}.get(form, total)
    assert made.counts is not None
    assert made.weights is not None
    assert (made.counts.weights, made.counts.nominal) == (total, kept)
    assert set(made.weights) <= {"0.weight", "2.weight", "4.weight"}
    assert {check.name: check.passed for check in verify(tmp_path / "p.safetensors")}["budget"]


def test_a_weight_that_two_norms_took_up_counts_in_both_forms(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.first, self.second = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            x = self.first(self.layer(x.flatten(1))).relu()
            return self.head(self.second(self.layer(x)).relu())

    torch.manual_seed(0)
    made = pack(Twice().eval(), images(3), tmp_path / "p.safetensors").manifest
    assert made.counts is not None
    assert made.weights is not None
    assert (made.counts.weights, made.counts.nominal) == (24, 24)
    assert len(made.weights) == 3
    assert made.counts.effective == made.provenance["nonzeros"]
