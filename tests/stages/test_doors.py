"""Things of a user's own, in files outside of harp: named, trained, resumed, measured, and perhaps gone later."""

import pytest

from harp.cli import main
from harp.errors import HarpError
from harp.runs import read_json
from harp.stages import STAGES, run_stages
from tests.stages.test_runner import run_killed_at
from tests.tiny import results, workspace

METHOD = '''
"""Twenty lines: keeps the largest weights, or the smallest, cut after some epochs."""
from harp import MovingMasks, Options
from harp.sparsity import allocation, allot, top_mask

class MineOptions(Options):
    after: int = 1
    """epochs before the cut"""
    largest: bool = True
    """keep the largest weights; false: the smallest"""

class Mine(MovingMasks):
    """Keeps what is largest, once (nobody, never)."""

    takes = MineOptions

    def __init__(self, what, budget, *, options=None, course=None):
        super().__init__(what, budget)
        self.options, self.at = options or MineOptions(), (options or MineOptions()).after * course.steps_per_epoch

    def final(self):
        counts, sign = allot(self.units, self.budget, allocation("erk", self.units)), 1 if self.options.largest else -1
        return {name: top_mask(sign * size, counts[name]) for name, size in self.units.magnitudes().items()}

    def push(self, moment):
        if moment.step == self.at and self.chosen.density == 1:
            self.move(self.final())
        super().push(moment)
'''
OTHERS = '''
from dataclasses import dataclass
import torch
from harp import Natural, PGD
from harp.data import Dataset, Images
from neighbour import WIDTH, nn

class Smooth(Natural):
    """Cross-entropy with smoothed labels."""

    def __call__(self, model, x, y, noise):
        yield lambda: torch.nn.functional.cross_entropy(model(x), y, label_smoothing=0.1)

def nudge(steps=3, restarts=1, step=0.25):
    """PGD under another name."""
    return PGD(steps=1, step=1.0)

def noise_images(path):
    """Pictures of noise whose brightness is the class."""
    made = torch.Generator().manual_seed(0)
    def part(n):
        y = torch.arange(n) % 3
        return Images((torch.rand(n, 1, 8, 8, generator=made) * 60 + 80 * y[:, None, None, None]).to(torch.uint8), y)
    return Dataset("noise", part(120), part(60), ("dark", "grey", "light"), flip=False, pad=0)

def net(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes))
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(METHOD)
    (tmp_path / "others.py").write_text(OTHERS)
    (tmp_path / "neighbour.py").write_text("from torch import nn\n\nWIDTH = 12\n")
    return tmp_path


OWN = {"prune": {"method": "mine.py:Mine", "options": {"after": 2, "largest": False}}}


def test_a_method_trains_is_killed_resumes_and_keeps_what_it_may(here, monkeypatch):
    names = [name for name in STAGES if name != "report"]
    run_stages(workspace(here / "whole", **OWN), names)
    run_killed_at(here / "killed", monkeypatch, "prune", 9, **OWN)
    run_stages(workspace(here / "killed", **OWN), names)
    assert results(here / "killed") == results(here / "whole")
    allocation = read_json(here / "whole" / "2-prune" / "allocation.json")
    assert sum(site["kept"] for site in allocation["sites"]) == allocation["budget"]
    assert "mine.py" in read_json(here / "whole" / "sources.json")["files"]
    # Whoever has the run and not the method can measure it.
    (here / "mine.py").unlink()
    main(["evaluate", str(here / "whole"), "--attacks", "fgsm", "--engine", "harp", "--doubts", "0", "--images", "20"])
    with pytest.raises(HarpError, match=r"pruning method 'mine.py:Mine': there is no file mine\.py"):
        run_stages(workspace(here / "new", **OWN), ["pretrain", "prune"])


def test_its_options_are_told_and_checked(here, capsys):
    main(["list", "methods", "mine.py:Mine"])
    told = " ".join(capsys.readouterr().out.split())
    assert "Keeps what is largest, once (nobody, never)." in told
    assert "largest True keep the largest weights; false: the smallest" in told
    with pytest.raises(HarpError, match=r"no setting 'prune\.options\.larges'; did you mean 'largest'"):
        workspace(here, prune={"method": "mine.py:Mine", "options": {"larges": True}})


def test_an_edit_between_stages_is_noticed(here):
    run_stages(workspace(here / "run", **OWN), ["pretrain"])
    (here / "mine.py").write_text(METHOD.replace("erk", "uniform"))
    with pytest.raises(HarpError, match=r"mine\.py was edited since .* used it"):
        run_stages(workspace(here / "run", **OWN), ["prune"])


def test_so_do_an_objective_an_attack_images_and_a_network_with_a_neighbour(here):
    sections = {
        "data": {"name": "others.py:noise_images", "train": 100},
        "model": {"name": "others.py:net", "width": 1.0},
        "pretrain": {"objective": "others.py:Smooth"},
        "evaluation": {"attacks": ["others.py:nudge", "fgsm"]},
    }
    run_stages(workspace(here / "run", **sections))
    measures = read_json(here / "run" / "evaluation" / "results.json")["models"]["finetuned"]
    assert {"clean", "nudge", "fgsm", "worst"} <= measures.keys()
    assert sorted(read_json(here / "run" / "sources.json")["files"]) == ["neighbour.py", "others.py"]


def test_a_plugin_registers_names(here):
    (here / "plugin.py").write_text(f"import harp\n{METHOD}\nharp.METHODS.register('mine')(Mine)\n")
    with pytest.raises(HarpError, match="no pruning method 'mine'"):
        workspace(here, prune={"method": "mine"})
    workspace(here, plugins=["plugin.py"], prune={"method": "mine", "options": {"after": 1}})
    with pytest.raises(HarpError, match=r"plugins: there is no file gone\.py"):
        workspace(here, plugins=["gone.py"])
