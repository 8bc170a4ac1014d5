"""`harp inspect`: numbers that can be checked by hand, what goes together, what stays and why, and what is refused."""

import re
from pathlib import Path

import pytest
import yaml

from harp.cli import main
from harp.cli.inspect import KEEP
from harp.config import PruneSettings

from ..foreign import bare
from ..runtime.graphs import BUILT

README = (Path(__file__).parents[2] / "README.md").read_text()
DIGITS = ("digits_cnn", "--channels", "1", "--size", "8")

OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.stem = nn.Conv2d(channels, 6, 1)
        self.one = nn.Conv2d(6, 4, 1)
        self.two = nn.Conv2d(4, 6, 1)
        self.head = nn.Linear(6, classes)
        self.idle = nn.Linear(3, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.two(self.one(x).relu())
        return self.head(x.mean((2, 3)))

def net(classes, channels, size):
    return Net(classes, channels)
"""

FROZEN = """
def frozen(model):
    model.stem.requires_grad_(False)
    return model
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path / 'own.py'}:net"


def said(capsys, *arguments: str) -> list[str]:
    """The lines of the plan, without the blanks that align them."""
    main(["inspect", *arguments])
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out
    assert max(map(len, captured.out.splitlines())) <= 80
    return [" ".join(line.split()) for line in captured.out.splitlines()]


def numbers(line: str) -> list[int]:
    """The integers of a line, its shares aside."""
    words = re.sub(r"[\d.]+ %", "", line).replace(",", "").split()
    return [int(word) for word in words if word.isdecimal()]


def row(lines: list[str], name: str) -> list[int]:
    return numbers(next(line for line in lines if line.startswith(f"{name} "))[len(name) :])


def test_the_weights_of_the_digits_network_by_hand(capsys):
    lines = said(capsys, *DIGITS)
    # 8 x 8 pixels, 4 x 4 after the first pool, and each of a linear layer's weights once.
    before = {
        "0.weight": 288 * 64,
        "3.weight": 18432 * 64,
        "7.weight": 73728 * 16,
        "12.weight": 65536,
        "14.weight": 1280,
    }
    uses = {"0.weight": 64, "3.weight": 64, "7.weight": 16, "12.weight": 1, "14.weight": 1}
    kept = {name: row(lines, name)[-3] for name in before}
    assert sum(kept.values()) == round(0.01 * 159_264) == 1593
    for name, macs in before.items():
        assert row(lines, name)[-2:] == [macs, kept[name] * uses[name]]
    assert row(lines, "weights") == [159_264, 1593]
    assert row(lines, "MACs per image") == [2_444_544, sum(kept[name] * uses[name] for name in kept)]
    assert "budget: 0.01 of 159,264 parameters is 1,593; spent: 1,593" in lines
    assert "3.weight 64x32x3x3 184 1.00 % 1,179,648 11,776" in lines


def test_of_kernels_all_weights_stay_or_none(capsys):
    lines = said(capsys, *DIGITS, "--granularity", "kernels", "--keep", "0.1")
    kept = {name: row(lines, name)[-3] for name in ("0.weight", "3.weight", "7.weight", "12.weight", "14.weight")}
    assert all(kept[name] % 9 == 0 for name in ("0.weight", "3.weight", "7.weight"))
    assert row(lines, "weights") == [159_264, sum(kept.values())] == [159_264, 15_926]
    assert row(lines, "3.weight")[-2:] == [18432 * 64, kept["3.weight"] * 64]


def test_channels_cost_what_the_smaller_network_costs(capsys):
    lines = said(capsys, *DIGITS, "--width", "0.25", "--granularity", "channels")
    groups = {name: row(lines, name) for name in ("0.weight", "3.weight", "7.weight", "12.weight")}
    assert [units for units, *_ in groups.values()] == [8, 16, 32, 32]
    a, b, c, d = (group[1] for group in groups.values())
    after = [a * 9 * 64, b * a * 9 * 64, c * b * 9 * 16, d * c * 4, 10 * d]
    assert [group[3] for group in groups.values()] == after[:4]
    assert row(lines, "(all others)") == [320, after[4]]
    assert row(lines, "weights") == [72 + 1152 + 4608 + 4096 + 320, a * 9 + b * a * 9 + c * b * 9 + d * c * 4 + 10 * d]
    assert row(lines, "MACs per image") == [156_480, sum(after)]
    # Short of the budget by less than one unit of the dearest layer, which is 3.weight.
    assert 78_240 - 9 * (8 * 64 + 32 * 16) < sum(after) <= 78_240
    assert f"budget: 0.5 of 156,480 macs is 78,240; spent: {sum(after):,}" in lines
    assert "14.weight its channels are the logits" in lines


def test_what_a_sum_ties_goes_together(capsys, own):
    lines = said(capsys, own, "--granularity", "channels", "--keep", "0.6", "--size", "4")
    assert row(lines, "stem.weight")[0] == 6
    assert row(lines, "one.weight")[0] == 4
    start = next(number for number, line in enumerate(lines) if line.startswith("removed together"))
    assert lines[start + 1 : start + 4] == ["stem.weight one.weight", "two.weight head.weight", "one.weight two.weight"]


def test_what_is_not_selected_stays_and_is_counted_apart(capsys, own):
    lines = said(capsys, own, "--granularity", "channels", "--exclude", "head", "--keep", "0.8", "--size", "4")
    assert "stem.weight head.weight is not selected" in lines
    assert row(lines, "MACs of weights not selected") == [60, 60]
    assert row(lines, "MACs per image")[0] == 16 * (3 * 6 + 6 * 4 + 4 * 6)


def test_frozen_weights_are_named_and_left_alone(capsys, own):
    path = Path(own.rpartition(":")[0])
    path.write_text(OWN.replace("return Net(classes, channels)", "return frozen(Net(classes, channels))") + FROZEN)
    lines = said(capsys, own, "--keep", "0.5", "--exclude", "idle")
    assert row(lines, "weights") == [24 + 24 + 60, 54]
    assert "note: stem.weight is frozen (requires_grad False) and not pruned; `include` takes" in " ".join(lines)
    lines = said(capsys, own, "--granularity", "channels", "--keep", "0.9", "--size", "4", "--exclude", "idle")
    assert "stem.weight stem.weight is frozen" in lines
    lines = said(capsys, own, "--keep", "0.5", "--include", "stem")
    assert row(lines, "weights") == [18, 9]
    assert not any(line.startswith("note: stem.weight is frozen") for line in lines)


def test_weights_that_multiply_nothing_are_named(capsys, own):
    said_at_once = " ".join(said(capsys, own, "--keep", "0.5"))
    assert "note: no MACs were traced to idle.weight: unused" in said_at_once
    assert "note" not in " ".join(said(capsys, own, "--keep", "0.5", "--exclude", "idle"))


def test_a_foreign_network_and_the_products_of_its_attention(capsys, tmp_path):
    bare("vit").config.save_pretrained(tmp_path)
    lines = said(capsys, f"hf:{tmp_path}", "--keep", "0.1", "--include", "class:Linear")
    # Two layers; 16 patches and the class token meet each other in 32 channels, once for queries and once for values.
    assert row(lines, "MACs without a weight (attention)") == [2 * 2 * 17 * 17 * 32] * 2
    assert row(lines, "MACs of weights not selected") == [16 * 32 * 3 * 64] * 2
    assert row(lines, "weights") == [16_704, 1670]


@pytest.mark.parametrize("start", ["erk", "lamp", "ideal-gas", "file"])
def test_every_rule_for_sharing_out_spends_the_same(capsys, tmp_path, start):
    names = ("0.weight", "3.weight", "7.weight", "12.weight", "14.weight")
    if start == "file":
        start = str(tmp_path / "rates.yaml")
        Path(start).write_text(yaml.safe_dump(dict(zip(names, (0.9, 0.5, 0.1, 0.05, 0.7), strict=True))))
    # Names come in a flag apart or with commas between, as in every command.
    common = (*DIGITS, "--width", "0.5", "--keep", "0.1", "--include", "0,3", "--include", "1?,7")
    lines, even = said(capsys, *common, "--allocation", start), said(capsys, *common)
    assert row(lines, "weights") == row(even, "weights") == [144 + 4608 + 18432 + 16384 + 640, 4021]
    assert [row(lines, name)[0] for name in names] != [row(even, name)[0] for name in names]
    assert any("lamp goes by the magnitudes" in line for line in lines) == (start == "lamp")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "required: MODEL"),
        (("resnet81",), "did you mean 'resnet18'"),
        ((*DIGITS, "--keeep", "0.1"), "no argument '--keeep'; did you mean '--keep'?"),
        ((*DIGITS, "--keep", "2"), "prune.keep: input should be less than or equal to 1, got '2'"),
        ((*DIGITS, "--keep", "1e-6"), "smallest reachable keep is 3.139e-05 (5 parameters)"),
        ((*DIGITS, "--granularity", "chanels"), "'filters' or 'channels', got 'chanels'"),
        ((*DIGITS, "--allocation", "erkk"), "did you mean 'erk'"),
        ((*DIGITS, "--include", "conv9"), "include: 'conv9' matches no weight"),
        ((*DIGITS, "--classes", "ten"), "--classes: invalid int value: 'ten'"),
        ((*DIGITS, "--classes", "0"), "classes 0: expected a whole number of at least 1"),
        ((*DIGITS, "--classes", str(10**400)), "classes: expected at most 1,000,000, got far more"),
        ((*DIGITS, "--size", str(10**12)), "size: expected at most 4,096, got 1,000,000,000,000"),
        ((*DIGITS, "--keep", "nan"), "prune.keep: input should be a finite number, got 'nan'"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_mistakes_end_in_one_clear_error(capsys, arguments, words):
    with pytest.raises(SystemExit) as end:
        main(["inspect", *arguments])
    captured = capsys.readouterr()
    assert end.value.code == 2
    assert captured.err.startswith("harp: ")
    assert words in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not captured.out


def test_the_flags_are_the_recipes_settings(capsys):
    with pytest.raises(SystemExit) as end:
        main(["inspect", "--help"])
    assert end.value.code == 0
    told = "".join(capsys.readouterr().out.split())
    for name in ("granularity", "keep", "of", "floor"):
        assert "".join(str(PruneSettings.model_fields[name].description).split()) in told
    assert KEEP["weights"] == PruneSettings.model_fields["keep"].default


def test_the_readme_shows_what_is_printed(capsys):
    found = re.search(r"```\nharp inspect ([^\n]*)\n\n(.*?)```", README, flags=re.DOTALL)
    assert found is not None
    command, shown = found.groups()
    printed = said(capsys, *command.split())
    assert [" ".join(line.split()) for line in shown.splitlines()] == printed


@pytest.mark.skipif(not BUILT, reason="the sparse engine is not built here")
def test_a_budget_of_latency_is_told_as_a_share_of_the_dense_network(capsys):
    main(["inspect", "cifar_cnn", "--keep", "0.2", "--of", "latency"])
    out = capsys.readouterr().out
    told = re.search(r"budget: 0\.2 of ([\d,]+) cycles is ([\d,]+); spent: ([\d,]+)", out)
    assert told is not None, out
    whole, budget, spent = (int(number.replace(",", "")) for number in told.groups())
    assert budget == pytest.approx(0.2 * whole, abs=1)
    assert 0.99 * budget < spent <= budget
