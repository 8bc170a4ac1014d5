"""Our attacks against those of AutoAttack's authors, point by point, on trained networks.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/agreement.py --out docs/results/agreement.json
        [--folder runs/agreement] [--images 512] [NAME=RUN/STAGE ...]

Every attack by itself on all images that a network gets right, one restart each and otherwise with the settings of
`standard`: by the bare package; by the package once more with the random numbers of ours (its start points, or the
windows and signs of Square, which it draws for a batch and ours then for all points alike); and by our engine with the
same. So "harp" beside "package, our numbers" tells whether the two are the same attack, and "package" beside "package,
our numbers" how much chance alone moves. FAB draws no numbers. The ensembles are the points that all their attacks
leave. A network is a run's folder and a stage in it; images are the test set's first, then the training set's.
Verdicts are kept in `--folder`, one file for each network, engine and attack: an interrupted comparison goes on.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, cast

import pyautoattack
import torch
from torch import Tensor, nn

import harp
from harp.attacks import ATTACKS
from harp.attacks.surrogate import Quick
from harp.config import make_recipe, read_recipe
from harp.pipeline import Workspace
from harp.pipeline.display import Display
from harp.randomness import Keyed
from harp.runs import environment, load_tree, save_tree, write_json
from harp.threats import per_point

NETWORKS = (
    "digits dense=runs/digits-seed1/1-pretrain",
    "cifar10 10 %=runs/cifar10-small-keep0.1/3-finetune",
    "cifar10 1 %=runs/cifar10-small-seed0/3-finetune",
)
NAMES = ("apgd-ce", "apgd-dlr", "fab", "apgd-t", "fab-t", "square")
ENSEMBLES = {"standard": ("apgd-ce", "apgd-t", "fab-t", "square"), "all six": NAMES}
RANDOM = ("apgd-ce", "apgd-dlr", "apgd-t", "square")  # FAB draws nothing before its second restart
ENGINES = ("package", "harp", "package, our numbers")
BATCH = 128


def network(where: Path, images: int) -> tuple[nn.Module, Tensor, Tensor, harp.Threat]:
    """The network of a stage, with the images it is asked about."""
    work = Workspace(make_recipe(read_recipe(where.parent / "recipe.yaml")), where.parent, Display())
    model = work.loaded(where / "model.safetensors", small=True).eval()
    parts = [work.in_order(part, images).once() for part in (work.split.test, work.split.train)]
    batches = [batch for part in parts for batch in part]
    x, y = (torch.cat([batch[i] for batch in batches])[:images] for i in range(2))
    return model, x, y, work.threat


def numbers(name: str, places: Tensor) -> Keyed:
    """Our random numbers for the points at `places`: each point's own, but those of Square are the same for all."""
    return Keyed.of(places * (name != "square"), 0, name)


def by_harp(name: str, model: nn.Module, x: Tensor, y: Tensor, threat: harp.Threat) -> Tensor:
    return Quick(ATTACKS[name](restarts=1, batch=BATCH))(model, x, y, threat, numbers(name, torch.arange(len(x))))


def by_package(name: str, model: nn.Module, x: Tensor, y: Tensor, threat: harp.Threat, ours: bool) -> Tensor:
    auto = pyautoattack.AutoAttack(model, norm="Linf", eps=threat.eps, seed=0, version="standard")
    auto.attacks_to_run = [name]
    if ours and name == "square":
        with_our_windows(auto.square, name)
    elif ours:
        with_our_starts(auto.apgd_targeted if name == "apgd-t" else auto.apgd, name, x, threat)
    adv, _ = auto.run_standard_evaluation(x.contiguous(), y, batch_size=BATCH)
    return cast(Tensor, adv)


def with_our_starts(part: Any, name: str, x: Tensor, threat: harp.Threat) -> None:
    """The package's APGD begins run r of each point where ours does."""
    places = {image.numpy().tobytes(): place for place, image in enumerate(x.contiguous())}
    perturb, attack, runs = part.perturb, part.attack_single_run, count()

    def perturbed(*batch: Any) -> Tensor:
        nonlocal runs
        runs = count()
        return cast(Tensor, perturb(*batch))

    def attacked(images: Tensor, labels: Tensor, x_init: None = None) -> Any:
        here = torch.tensor([places[image.numpy().tobytes()] for image in images])
        way = numbers(name, here).at(next(runs)).uniform(images.shape[1:], -1, 1)
        return attack(images, labels, images + way * per_point(threat.eps / way.flatten(1).abs().amax(1), way))

    part.perturb, part.attack_single_run = perturbed, attacked


def with_our_windows(part: Any, name: str) -> None:
    """The package's Square has our stripes, and in each move the place and the signs of our windows."""
    noise = numbers(name, torch.zeros(1, dtype=torch.long))
    draws: list[Tensor] = []
    moves, channels = count(1), 0

    def signs(shape: list[int]) -> Tensor:
        nonlocal moves, channels
        if len(shape) == 4:  # the stripes, with which a run begins
            moves, channels = count(1), shape[1]
            return 2.0 * (noise.at(-1).uniform(shape[1:]) < 0.5) - 1
        return 2.0 * (draws.pop()[2:].view(shape) < 0.5) - 1

    def place(low: int, high: int) -> Tensor:
        if not draws:
            draws.append(noise.at(next(moves)).uniform((2 + channels,))[0])
            return (draws[0][:1] * (high + 1)).long()
        return (draws[0][1:2] * (high + 1)).long()

    part.random_choice, part.random_int = signs, place


def verdicts(folder: Path, what: str, where: Path, engine: str, images: int) -> Iterator[dict[str, Any]]:
    """For each attack the points left and the seconds it took."""
    model, x, y, threat = network(where, images)
    with torch.no_grad():
        right = model(x).argmax(1) == y
    for name in RANDOM if engine == ENGINES[2] else NAMES:
        path = folder / f"{what}.{engine}.{name}.safetensors".replace(" ", "_").replace("%", "percent")
        if not path.exists():
            began = time.process_time()
            attacked, labels = x[right], y[right]
            if engine == "harp":
                adv = by_harp(name, model, attacked, labels, threat)
            else:
                adv = by_package(name, model, attacked, labels, threat, ours=engine == ENGINES[2])
            with torch.no_grad():
                held = model(adv).argmax(1) == labels
            left = right.masked_scatter(right, held)
            save_tree(path, {"left": left, "adv": adv, "seconds": time.process_time() - began})
            print(f"{what}, {engine}, {name}: {int(left.sum())} of {len(left)}", flush=True)
        tree = load_tree(path)
        yield {"name": name, "left": tree["left"], "seconds": tree["seconds"]}


def compared(folder: Path, what: str, images: int) -> dict[str, Any]:
    """How each attack's verdicts differ between the engines."""
    name, _, where = what.partition("=")
    found = {e: {v["name"]: v for v in verdicts(folder, name, Path(where), e, images)} for e in ENGINES}
    flags = {e: {a: v["left"] for a, v in rows.items()} for e, rows in found.items()}
    flags[ENGINES[2]] |= {name: flags[ENGINES[0]][name] for name in NAMES if name not in RANDOM}
    for rows in flags.values():
        for version, parts in ENSEMBLES.items():
            rows[version] = torch.stack([rows[part] for part in parts]).all(0)
    package, ours, paired = (flags[engine] for engine in ENGINES)
    return {
        attack: {
            "package": int(package[attack].sum()),
            "package, our numbers": int(paired[attack].sum()),
            "harp": int(ours[attack].sum()),
            "differ": (paired[attack] ^ ours[attack]).nonzero().flatten().tolist(),
            "differ by chance": (package[attack] ^ paired[attack]).nonzero().flatten().tolist(),
            "differ in all": (package[attack] ^ ours[attack]).nonzero().flatten().tolist(),
            **({"seconds": {e: found[e][attack]["seconds"] for e in ENGINES[:2]}} if attack in NAMES else {}),
        }
        for attack in (*NAMES, *ENSEMBLES)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NAME=RUN/STAGE")
    parser.add_argument("--folder", type=Path, default=Path("runs/agreement"))
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--package-only", action="store_true", help="only fill the folder with the package's verdicts")
    options = parser.parse_args()
    if options.package_only:
        for engine in (ENGINES[0], ENGINES[2]):
            for what in options.networks:
                name, _, where = what.partition("=")
                for _ in verdicts(options.folder, name, Path(where), engine, options.images):
                    pass
        return
    results = {what.partition("=")[0]: compared(options.folder, what, options.images) for what in options.networks}
    if options.out:
        record = {"images": options.images, "pyautoattack": "0.2.0", "environment": environment(torch.device("cpu"))}
        write_json(options.out, {**record, "results": results})
    for what, rows in results.items():
        print(what)
        for attack, row in rows.items():
            print(f"  {attack:9} {row}")


if __name__ == "__main__":
    main()
