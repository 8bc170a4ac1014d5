"""A made-up run directory, small and consistent: four layers, three stages, two attacks, four images."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harp.report import write_report
from harp.runs import save_tree, write_json

SITES = {
    "conv1.weight": (144, 90),
    "conv2.weight": (2304, 70),
    "conv3.weight": (9216, 60),
    "fc.weight": (640, 26),
}
TOTAL, KEPT = 12304, 246
CLASSES = ["zero", "one", "two", "<b>"]
RECIPE = """\
name: tiny
seed: 0
data: {name: digits}
model: {name: small-cnn}
threat: {norm: inf, eps: 0.03137254901960784}
pretrain: {epochs: 2}
prune: {method: harp, keep: 0.02, epochs: 2}
finetune: {epochs: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The HTML and the Markdown of the run as it is."""
    html = write_report(write_run(tmp_path_factory.mktemp("page") / "run"))
    return html.read_text(), html.with_suffix(".md").read_text()


def write_run(run: Path) -> Path:
    """The directory `run`, with every file that a report needs."""
    run.mkdir()
    (run / "recipe.yaml").write_text(RECIPE)
    write_json(run / "environment.json", {"python": "3.11.9", "threads": 2, "torch": "2.13.0", "commit": None})
    counts = {"train": 1200, "validation": 200, "test": 397}
    write_json(run / "data.json", {"name": "digits", "fingerprint": "f00d", **counts, "classes": CLASSES})
    _write_stages(run)
    sites = [
        {"name": name, "size": size, "kept": kept, "uniform": round(size * 0.02), "rate": kept / size * 1.01}
        for name, (size, kept) in SITES.items()
    ]
    shares = {"method": "harp", "keep": 0.02, "budget": KEPT, "total": TOTAL, "density_before": 0.0202}
    write_json(run / "2-prune/allocation.json", {**shares, "sites": sites})
    _write_evaluation(run)
    manifest = {"file": "tiny.safetensors", "bytes": 12345, "sha256": "ab" * 32, "total": TOTAL}
    kept = {name: {"size": size, "kept": kept} for name, (size, kept) in SITES.items()}
    checked = {"logits_equal": True, "checked_images": 64}
    write_json(run / "export/manifest.json", {**manifest, "kept": KEPT, "sites": kept, **checked})
    return run


def write_metrics(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _write_stages(run: Path) -> None:
    for place, stage in enumerate(("1-pretrain", "2-prune", "3-finetune")):
        records = [_moment(step, place) for step in range(1, 21)]
        write_metrics(run / stage / "metrics.jsonl", records)
        write_json(run / stage / "done.json", {"seconds": 75.0, "selected_step": 20, "notes": []})


def _moment(step: int, place: int) -> dict[str, Any]:
    robust = 0.1 * place + 0.02 * step
    seen = {"clean": robust + 0.2, "robust": robust} if step % 5 == 0 else None
    record = {"step": step, "epoch": step / 10, "lr": 0.1, "loss": 1 / step, "validation": seen, "pruner": {}}
    return {**record, "pruner": _pruner(step)} if place == 1 else record


def _pruner(step: int) -> dict[str, Any]:
    rates = {name: max(kept / size, 0.5**step) for name, (size, kept) in SITES.items()}
    density = sum(rates[name] * size for name, (size, _) in SITES.items()) / TOTAL
    parts = {"robust": -0.01 / step, "size": 0.02, "decay": 0.001}
    return {
        "density": density,
        "penalty": density / 0.02,
        "gamma": 0.05 * step,
        "target_met": density < 0.0205,
        "rates": rates,
        "rate_gradients": {part: dict.fromkeys(SITES, value) for part, value in parts.items()},
    }


def _write_evaluation(run: Path) -> None:
    def cell(right: float) -> dict[str, float]:
        return {"accuracy": right, "low": right - 0.041, "high": right + 0.034, "n": 397}

    def model(kept: int, clean: float) -> dict[str, Any]:
        attacked = {"pgd": cell(clean - 0.2), "apgd-ce": cell(clean - 0.21), "worst": cell(clean - 0.215)}
        return {"kept": kept, "total": TOTAL, "clean": cell(clean), **attacked}

    models = {"dense": model(TOTAL, 0.951), "pruned": model(KEPT, 0.711), "finetuned": model(KEPT, 0.832)}
    attacks = {"pgd": "PGD(steps=10)", "apgd-ce": "APGD(loss='ce', steps=50)"}
    threat = {"norm": "inf", "eps": 8 / 255}
    write_json(run / "evaluation/results.json", {"threat": threat, "attacks": attacks, "models": models})
    write_json(run / "evaluation/done.json", {"seconds": 9.0, "notes": []})
    noise = torch.Generator().manual_seed(0)
    images = torch.rand(4, 1, 8, 8, generator=noise, dtype=torch.float64)
    names = ("dense", "pruned", "finetuned")
    moves = {name: torch.randn(images.shape, generator=noise).sign() for name in names}
    adversarial = {name: images + 8 / 255 * move for name, move in moves.items()}
    predictions = {name: torch.tensor([[0, 0], [1, 2], [2, 2], [3, 1]]) for name in names}
    clean = {"images": images, "labels": torch.arange(4)}
    attacked = {"adversarial": adversarial, "predictions": predictions}
    save_tree(run / "evaluation/examples.safetensors", clean | attacked)
