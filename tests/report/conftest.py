"""Made-up run directories, small and consistent: three stages, two attacks, four images; weights or channels pruned."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harp.config import make_recipe, write_recipe
from harp.report import write_report
from harp.runs import read_json, save_tree, write_json
from harp.seals import SEAL, write_sealed

SITES = {
    "conv1.weight": (144, 90),
    "conv2.weight": (2304, 70),
    "conv3.weight": (9216, 60),
    "fc.weight": (640, 26),
}
TOTAL, KEPT = 12304, 246
TOTAL_MACS, MACS = 900_000, 71_000
CHANNELS = {"conv1.weight": (16, 9), "conv2.weight": (32, 28), "conv3.weight": (64, 20)}
LEFT, LEFT_MACS = 5_021, 449_870
CLASSES = ["zero", "one", "two", "<b>"]
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "model": {"name": "small-cnn"},
    "prune": {"keep": 0.02},
    "finetune": {"objective": "trades", "awp": 0.005},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture
def channels(tmp_path: Path) -> Path:
    return write_channels_run(tmp_path / "channels")


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The HTML and the Markdown of the run as it is."""
    html = write_report(write_run(tmp_path_factory.mktemp("page") / "run"))
    return html.read_text(), html.with_suffix(".md").read_text()


def write_run(run: Path) -> Path:
    """The directory `run`, with every file that a report needs."""
    run.mkdir()
    (run / "recipe.yaml").write_bytes(write_recipe(make_recipe(RECIPE)))
    write_json(run / "environment.json", {"python": "3.11.9", "threads": 2, "torch": "2.13.0", "commit": None})
    counts = {"train": 1200, "validation": 200, "test": 397}
    write_json(run / "data.json", {"name": "digits", "fingerprint": "f00d", **counts, "classes": CLASSES})
    _write_stages(run)
    sites = [
        {"name": name, "size": size, "kept": kept, "uniform": round(size * 0.02), "rate": kept / size * 1.01}
        for name, (size, kept) in SITES.items()
    ]
    budget = {"of": "parameters", "keep": 0.02, "budget": KEPT, "price": KEPT, "total": TOTAL}
    method = {"method": "harp", "granularity": "weights", "density_before": 0.0202}
    write_json(run / "2-prune/allocation.json", {**method, **budget, "sites": sites})
    _write_evaluation(run)
    manifest = {"file": "tiny.safetensors", "bytes": 12345, "sha256": "ab" * 32, "total": TOTAL}
    kept = {name: {"size": size, "kept": kept} for name, (size, kept) in SITES.items()}
    checked = {"logits_equal": True, "checked_images": 64}
    write_json(run / "export/manifest.json", {**manifest, "kept": KEPT, "sites": kept, **checked})
    return run


def write_channels_run(run: Path) -> Path:
    """The directory `run` of one that removed channels, in mode exact, within half the multiply-accumulates."""
    write_run(run)
    section = {"keep": 0.5, "granularity": "channels", "options": {"mode": "exact"}}
    (run / "recipe.yaml").write_bytes(write_recipe(make_recipe({**RECIPE, "prune": section})))
    (run / "1-pretrain/model.safetensors").write_bytes(bytes(45_678))
    metrics = [_moment(step, 1) | {"pruner": _exact(step)} for step in range(1, 21)]
    write_metrics(run / "2-prune/metrics.jsonl", metrics)
    sites = [
        {"name": name, "size": size, "kept": kept, "uniform": size // 2, "rate": kept / size}
        for name, (size, kept) in CHANNELS.items()
    ]
    budget = {"of": "macs", "keep": 0.5, "budget": 450_000, "price": LEFT_MACS, "total": TOTAL_MACS}
    changed = {"granularity": "channels", "density_before": 0.5, **budget, "sites": sites}
    change(run / "2-prune/allocation.json", **changed)
    models = read_json(run / "evaluation/results.json")["models"]
    for name in ("pruned", "finetuned"):
        models[name] |= {"kept": LEFT, "macs": LEFT_MACS}
    change(run / "evaluation/results.json", models=models)
    change(run / "export/manifest.json", kept=LEFT)
    return run


def change(path: Path, **values: Any) -> None:
    """The file with other values, and with a seal where it had one."""
    old = read_json(path)
    seal = old.pop(SEAL, None)
    if seal is None:
        write_json(path, {**old, **values})
    else:
        write_sealed(path, {**old, **values}, seal["files"])


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


def _exact(step: int) -> dict[str, Any]:
    rates = {name: max(kept / size, 1 - step / 20) for name, (size, kept) in CHANNELS.items()}
    parts = {"robust": -0.01 / step, "size": 0.0, "decay": 0.0}
    gradients = {part: dict.fromkeys(CHANNELS, value) for part, value in parts.items()}
    return {"density": max(0.5, 1 - step / 20), "rates": rates, "rate_gradients": gradients}


def _write_evaluation(run: Path) -> None:
    def cell(right: float) -> dict[str, float]:
        return {"accuracy": right, "low": right - 0.041, "high": right + 0.034, "n": 397}

    def model(kept: int, clean: float) -> dict[str, Any]:
        attacked = {"pgd": cell(clean - 0.2), "apgd-ce": cell(clean - 0.21), "worst": cell(clean - 0.215)}
        macs = {"macs": TOTAL_MACS if kept == TOTAL else MACS, "total_macs": TOTAL_MACS}
        return {"kept": kept, "total": TOTAL, **macs, "clean": cell(clean), **attacked}

    models = {"dense": model(TOTAL, 0.951), "pruned": model(KEPT, 0.711), "finetuned": model(KEPT, 0.832)}
    attacks = {"pgd": "PGD(steps=10)", "apgd-ce": "APGD(loss='ce', steps=50)"}
    threat = {"norm": "inf", "eps": 8 / 255}
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
    values = {"threat": threat, "attacks": attacks, "models": models}
    write_sealed(run / "evaluation/results.json", values, ["examples.safetensors"])
