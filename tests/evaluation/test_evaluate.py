import copy
import math
import sys
import warnings

import pytest
import torch
from torch import nn

from harp.attacks import ATTACKS, PGD, Attack, AttackWarning, Cascade
from harp.errors import HarpError
from harp.evaluation import Evaluation, evaluate, summary, wilson
from harp.runs import load_tree
from harp.threats import Threat
from tests.attacks.linear import images, labels, linear, margins

THREAT = Threat(math.inf, 0.02)
MODEL = linear(bias=0.3).eval()
BATCHES = [(images(64)[:40], labels(64)[:40]), (images(64)[40:], labels(64)[40:])]
FGSM = {"fgsm": ATTACKS["fgsm"]()}


def same(first: Evaluation, second: Evaluation) -> bool:
    tensors = all(torch.equal(value, second.flags[name]) for name, value in first.flags.items())
    return tensors and torch.equal(first.distance, second.distance) and first.broken_by == second.broken_by


def by_half(model, x, y, threat, noise):
    """Breaks what FGSM breaks at half of eps."""
    return ATTACKS["fgsm"]()(model, x, y, Threat(threat.norm, threat.eps / 2), noise)


def test_every_measure_and_the_worst_of_them():
    found = evaluate(MODEL, BATCHES, {"fgsm": FGSM["fgsm"], "pgd": PGD()}, THREAT)
    assert list(found.flags) == ["clean", "fgsm", "pgd", "worst"]
    assert all(right.dtype is torch.bool and right.shape == (64,) for right in found.flags.values())
    # In closed form: eps times the 1-norm of the weights (3.75) comes off each margin.
    clean = margins(MODEL, images(64), labels(64))
    assert torch.equal(found.flags["clean"], clean > 0)
    assert torch.equal(found.flags["worst"], clean > 3.75 * THREAT.eps)
    assert 0 < found.flags["worst"].sum() < found.flags["clean"].sum()
    assert torch.equal(found.labels, labels(64))


def test_who_broke_an_example_first_and_from_how_far():
    found = evaluate(MODEL, BATCHES, {"half": by_half, **FGSM}, THREAT)
    for place, by in enumerate(found.broken_by):
        held = {name: bool(found.flags[name][place]) for name in ("clean", "half", "fgsm")}
        assert by == next((name for name, right in held.items() if not right), "")
        eps = {"": math.inf, "clean": 0.0, "half": THREAT.eps / 2, "fgsm": THREAT.eps}[by]
        assert math.isclose(float(found.distance[place]), eps, abs_tol=1e-6)
    assert {"", "clean", "half", "fgsm"} == set(found.broken_by)


def test_a_cascade_attacks_only_what_is_left():
    seen: dict[str, list[int]] = {"half": [], "all": []}

    def counting(name, attack):
        def counted(model, x, y, threat, noise):
            seen[name].append(len(x))
            return attack(model, x, y, threat, noise)

        return counted

    attacks = {"half": counting("half", by_half), "all": counting("all", FGSM["fgsm"])}
    single = evaluate(MODEL, BATCHES, attacks, THREAT)
    assert seen["half"] == seen["all"]
    seen["half"], seen["all"] = [], []
    cascade = evaluate(MODEL, BATCHES, Cascade(attacks), THREAT)
    assert sum(seen["all"]) == int(single.flags["half"].sum()) < sum(seen["half"])
    assert torch.equal(cascade.flags["worst"], single.flags["worst"])
    assert torch.equal(cascade.flags["all"], cascade.flags["worst"])


def test_an_eps_of_zero_is_the_clean_measure():
    found = evaluate(MODEL, BATCHES, {"pgd": PGD()}, Threat(math.inf, 0.0))
    assert torch.equal(found.flags["pgd"], found.flags["clean"])


def test_seed_and_name_decide_the_noise():
    drawn = []

    def attack(model, x, y, threat, noise):
        drawn.append(float(noise.uniform(())[0]))
        return x

    for seed, names in ((0, ["a", "b"]), (0, ["b"]), (1, ["a"])):
        evaluate(MODEL, BATCHES, dict.fromkeys(names, attack), THREAT, seed)
    a, b, alone, other = drawn[:2], drawn[2:4], drawn[4:6], drawn[6:]
    assert alone == b
    assert len({*a, *b, *other}) == 6


def test_modes_come_back_and_statistics_stay():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).train()
    model[1].eval()
    evaluate(model, BATCHES, {"pgd": PGD(steps=2)}, THREAT)
    assert [module.training for module in model.modules()] == [True, True, False, True, True]
    assert model[1].num_batches_tracked == 0
    assert all(param.grad is None for param in model.parameters())


def test_an_attacks_warnings_become_notes_once(tmp_path):
    def wary(model, x, y, threat, noise):
        warnings.warn(AttackWarning("gradients vanish"), stacklevel=1)
        return x

    for _ in range(2):  # measured, and read from the record
        assert evaluate(MODEL, BATCHES, {"a": wary}, THREAT, folder=tmp_path).notes == ("a: gradients vanish",)


class Cut(BaseException):
    pass


@pytest.mark.parametrize("after", range(1, 6))
def test_an_interrupted_record_ends_as_one_that_was_not(tmp_path, after):
    attacks: dict[str, Attack] = {"half": by_half, "pgd": PGD(restarts=2)}
    whole = evaluate(MODEL, BATCHES, Cascade(attacks), THREAT, folder=tmp_path / "whole")
    calls = []

    def tick(measure, n):
        calls.append((measure, n))
        if len(calls) == after:
            raise Cut

    with pytest.raises(Cut):
        evaluate(MODEL, BATCHES, Cascade(attacks), THREAT, folder=tmp_path / "cut", tick=tick)
    again = evaluate(MODEL, BATCHES, Cascade(attacks), THREAT, folder=tmp_path / "cut")
    assert same(whole, again)
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "cut").iterdir())
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_the_record_holds_the_images_that_prove_it(tmp_path):
    found = evaluate(MODEL, BATCHES, FGSM, THREAT, folder=tmp_path)
    shown = 0
    for index, (x, y) in enumerate(BATCHES):
        tree = load_tree(tmp_path / f"fgsm-{index:05d}.safetensors")
        adv, places = tree["adv"], tree["places"]
        assert (THREAT.excess(adv, x[places]) <= 1e-6).all()
        assert (margins(MODEL, adv, y[places]) <= 0).all()
        shown += len(adv)
    assert shown == int((found.flags["clean"] & ~found.flags["fgsm"]).sum())


def test_what_is_recorded_is_not_measured_again(tmp_path):
    seen = []

    def counted(model, x, y, threat, noise):
        seen.append(len(x))
        return FGSM["fgsm"](model, x, y, threat, noise)

    first = evaluate(MODEL, BATCHES, {"fgsm": counted}, THREAT, folder=tmp_path)
    assert len(seen) == 2
    assert same(evaluate(MODEL, BATCHES, {"fgsm": counted}, THREAT, folder=tmp_path), first)
    assert len(seen) == 2


def other(batches):
    return [(x.flip(0), y) for x, y in batches]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": linear(bias=0.31)}, "record of another model"),
        ({"batches": other(BATCHES)}, "record of other images"),
        ({"batches": BATCHES[:1]}, "record of more"),
        ({"threat": Threat(math.inf, 0.03)}, r"another threat: .*eps=0\.02.* there, .*eps=0\.03"),
        ({"threat": Threat(2, 0.02)}, "another threat"),
        ({"attacks": {"fgsm": ATTACKS["pgd"]()}}, "another attacks"),
        ({"seed": 1}, "another seed: 0 there, 1 asked for; choose another folder"),
        ({"attacks": Cascade(fgsm=ATTACKS["fgsm"]())}, "another cascade"),
    ],
)
def test_a_foreign_record_is_refused(tmp_path, change, message):
    asked = {"model": MODEL, "batches": BATCHES, "attacks": FGSM, "threat": THREAT, "folder": tmp_path}
    evaluate(**asked)
    with pytest.raises(HarpError, match=message):
        evaluate(**{**asked, **change})


def test_a_record_of_another_version_is_refused(tmp_path, monkeypatch):
    evaluate(MODEL, BATCHES, FGSM, THREAT, folder=tmp_path)
    monkeypatch.setattr(sys.modules["harp.evaluation.identity"], "version", lambda name: "0.0.1")
    with pytest.raises(HarpError, match=r"another version: .*0\.0\.1"):
        evaluate(MODEL, BATCHES, FGSM, THREAT, folder=tmp_path)


def test_any_callable_is_evaluated_and_told_by_its_logits(tmp_path):
    def behind(network):
        return lambda x: network(x)

    first = evaluate(behind(MODEL), BATCHES, FGSM, THREAT, folder=tmp_path)
    assert same(first, evaluate(MODEL, BATCHES, FGSM, THREAT))
    assert same(first, evaluate(behind(MODEL), BATCHES, FGSM, THREAT, folder=tmp_path))
    with pytest.raises(HarpError, match="record of another model"):
        evaluate(behind(linear(bias=0.4)), BATCHES, FGSM, THREAT, folder=tmp_path)
    with pytest.raises(HarpError, match="record of another code, of <lambda>; choose another folder"):
        evaluate(lambda x: MODEL(x) * 2 / 2, BATCHES, FGSM, THREAT, folder=tmp_path)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(HarpError, match="files but no record"):
        evaluate(MODEL, BATCHES, FGSM, THREAT, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["clean", "worst"])
def test_the_names_of_the_measures_are_taken(name):
    with pytest.raises(HarpError, match=f"cannot be called '{name}'"):
        evaluate(MODEL, BATCHES, {name: PGD()}, THREAT)


def test_batches_that_end_are_refused():
    with pytest.raises(HarpError, match="only once"):
        evaluate(MODEL, iter(BATCHES), FGSM, THREAT)
    with pytest.raises(HarpError, match="no batches"):
        evaluate(MODEL, [], FGSM, THREAT)


class Loader:
    """Batches of 20 of the first images, as `order` and `change` make them in each pass; a DataLoader in short."""

    def __init__(self, order=lambda n, passed: torch.arange(n), change=lambda x, passed: x, n=lambda passed: 60):
        self.order, self.change, self.n, self.passed = order, change, n, 0

    def __iter__(self):
        n = self.n(self.passed)
        places = self.order(n, self.passed)
        x, y = self.change(images(64), self.passed)[places], labels(64)[places]
        self.passed += 1
        return iter(list(zip(x.split(20), y.split(20), strict=True)))


def shuffled(n, passed):
    return torch.randperm(n, generator=torch.Generator().manual_seed(passed))


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ({"order": shuffled}, "batch 0 of the pass for half has its images in another order"),
        ({"change": lambda x, passed: (x + 0.01 * passed).clamp(0, 1)}, "has other pixels or labels"),
        ({"n": lambda passed: 60 - 20 * passed}, "ended after 2 of the first's 3 batches"),
        ({"n": lambda passed: 60 - passed}, "batch 2 of the pass for half has 19 images and had 20"),
        ({"n": lambda passed: 40 + 20 * passed}, "has more batches than the first, 2"),
    ],
)
def test_images_that_change_from_pass_to_pass_are_refused(tmp_path, loader, message, recorded):
    folder = tmp_path / "record" if recorded else None
    with pytest.raises(HarpError, match=message):
        evaluate(lambda x: MODEL(x), Loader(**loader), {"half": by_half, **FGSM}, THREAT, folder=folder)


def test_a_loader_of_a_fixed_order_is_as_good_as_a_list():
    fixed = [(images(64)[:60][i : i + 20], labels(64)[:60][i : i + 20]) for i in (0, 20, 40)]
    assert same(evaluate(MODEL, Loader(), FGSM, THREAT), evaluate(MODEL, fixed, FGSM, THREAT))


def test_an_attack_gets_copies():
    """Moving x itself would make any distance 0, and y itself any answer right."""

    def inwards(model, x, y, threat, noise):
        x += 0.5
        return x

    def relabelled(model, x, y, threat, noise):
        y += 1
        return x

    before = [(x.clone(), y.clone()) for x, y in BATCHES]
    with pytest.raises(HarpError, match="left the threat by"):
        evaluate(MODEL, BATCHES, {"inwards": inwards}, THREAT)
    found = evaluate(MODEL, BATCHES, {"relabelled": relabelled}, THREAT)
    assert torch.equal(found.flags["relabelled"], found.flags["clean"])
    assert all(torch.equal(a, b) for pair in zip(before, BATCHES, strict=True) for a, b in zip(*pair, strict=True))


def test_an_attack_that_fails_is_named():
    def broken(model, x, y, threat, noise):
        raise RuntimeError("no gradient\nmore")

    with pytest.raises(HarpError, match=r"attack mine fails on a batch of \d+ images \(RuntimeError: no gradient\)"):
        evaluate(MODEL, BATCHES, {"mine": broken}, THREAT)


def test_a_function_of_somebodys_own_is_known_again_wherever_it_lies_in_memory(tmp_path):
    def made():
        return lambda model, x, y, threat, noise: by_half(model, x, y, threat, noise)

    first = evaluate(MODEL, BATCHES, {"mine": made()}, THREAT, folder=tmp_path)
    assert same(first, evaluate(MODEL, BATCHES, {"mine": made()}, THREAT, folder=tmp_path))


class Wrapping(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap, self.model = wrap, copy.deepcopy(MODEL)

    def forward(self, x):
        return self.wrap(self.model(x))


@pytest.mark.parametrize("wrap", [lambda logits: {"logits": logits}, lambda logits: (logits, None)])
def test_wrapped_logits_are_opened_of_networks_as_of_functions(tmp_path, wrap):
    plain, network = evaluate(MODEL, BATCHES, FGSM, THREAT), Wrapping(wrap).train()
    assert same(plain, evaluate(network, BATCHES, FGSM, THREAT, folder=tmp_path))
    assert same(plain, evaluate(lambda x: network(x), BATCHES, FGSM, THREAT))
    assert network.training


@pytest.mark.parametrize("name", ["../out", "a/b", "a\\b", "", ".hidden"])
def test_an_attacks_name_leads_nowhere_else(tmp_path, name):
    with pytest.raises(HarpError, match="an attack cannot be called"):
        evaluate(MODEL, BATCHES, {name: PGD()}, THREAT, folder=tmp_path / "record")
    assert not (tmp_path / "out-00000.safetensors").exists()


@pytest.mark.parametrize(
    ("threat", "message"),
    [
        (Threat(math.inf, 8), r"eps 8 allows every image.* than 1 .*did you mean 8/255\?"),
        (Threat(2, 8), r"no two lie further apart than 2 .*did you mean 8/255"),
        (Threat(math.inf, 8, 0, 2), r"pixels from 0 to 2$"),
    ],
)
def test_an_eps_beyond_the_box_is_refused(threat, message):
    with pytest.raises(HarpError, match=message):
        evaluate(MODEL, BATCHES, FGSM, threat)


class Noisy(nn.Module):
    """Logits with noise, from torch's global generator or one of its own."""

    def __init__(self, own=None):
        super().__init__()
        self.model, self.own = MODEL, own

    def forward(self, x):
        logits = self.model(x)
        return logits + torch.randn(logits.shape, generator=self.own)


def test_a_random_network_repeats_at_one_seed_and_its_record_resumes(tmp_path):
    once = evaluate(Noisy(), BATCHES, FGSM, THREAT, folder=tmp_path)
    torch.rand(1)
    assert same(once, evaluate(Noisy(), BATCHES, FGSM, THREAT))
    assert same(once, evaluate(Noisy(), BATCHES, FGSM, THREAT, folder=tmp_path))
    assert not same(once, evaluate(Noisy(), BATCHES, FGSM, THREAT, seed=1))


def test_a_network_with_a_generator_of_its_own_resumes_with_a_note(tmp_path):
    first = evaluate(Noisy(torch.Generator()), BATCHES, FGSM, THREAT, folder=tmp_path)
    again = evaluate(Noisy(torch.Generator().manual_seed(5)), BATCHES, FGSM, THREAT, folder=tmp_path)
    assert same(first, again)
    assert any("answers one question in two ways" in note for note in again.notes)


class Centred(nn.Module):
    """Minus the mean of the batch: an answer depends on the other images."""

    def forward(self, x):
        return MODEL(x - x.mean(0, keepdim=True) + 0.5)


def test_the_record_of_a_network_that_looks_at_the_whole_batch_resumes(tmp_path):
    first = evaluate(Centred(), BATCHES, FGSM, THREAT, folder=tmp_path)
    assert same(first, evaluate(Centred(), BATCHES, FGSM, THREAT, folder=tmp_path))


def test_the_summary_gives_accuracy_interval_and_n():
    (row,) = summary({"clean": torch.tensor([True] * 83 + [False] * 17)}).values()
    low, high = wilson(83, 100)
    assert row == {"accuracy": 0.83, "low": low, "high": high, "n": 100}


def test_clean_and_robust_are_shares_of_what_was_right():
    found = evaluate(MODEL, BATCHES, FGSM, THREAT)
    assert (found.clean, found.robust) == tuple(
        int(found.flags[name].sum()) / len(found.labels) for name in ("clean", "worst")
    )
