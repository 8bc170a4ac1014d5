"""A recipe: every number of a run in one frozen, typed tree.

Defaults are the paper's values, except where its code departs from it or from good practice, which is a choice:
`schedule`, `batch_norm` and `selection`; and eps is the customary 8/255, where the paper's code has 0.031.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from harp.config.values import (
    Count,
    Granularity,
    NonNegative,
    Part,
    Place,
    Plain,
    Portion,
    Positive,
    Real,
    Seed,
    Share,
    Span,
    Text,
    Threads,
    Whole,
    Word,
    Written,
)


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class DataSettings(Settings):
    name: Text = "digits"
    """data set (`harp list`)"""
    path: Place | None = None
    """folder or file the set is read from; none: the set's own place"""
    relabel: bool = False
    """number labels anew from 0, in order, where they count from 1 or leave numbers out and have no class names"""
    train: Count | None = None
    """train on this many images, classes in proportion; none: all"""
    holdout: Portion = 0.1
    """share of the training images held out, classes in proportion, to select the best epoch"""
    flip: bool | None = None
    """mirror training images at random; none: where the set allows it"""
    pad: Whole | None = None
    """pad by this many pixels and crop at random; none: the set's own value"""


class ModelSettings(Settings):
    name: Text = "digits_cnn"
    """network (`harp list`), timm:NAME, torchvision:NAME, hf:FOLDER_OR_ID, or path/to/file.py:factory"""
    width: Positive = 1.0
    """factor on the channel counts"""
    mean: tuple[Real, ...] | None = None
    """per-channel mean subtracted inside the model; eps stays in pixels"""
    std: tuple[Positive, ...] | None = None
    """per-channel deviation divided by inside the model"""
    output: Text | None = None
    """where the logits are in what the network returns, a key or a place such as 0; none: where only one can be"""
    include: tuple[Text, ...] = ()
    """to prune: name, module, glob (`layer1.*`), `class:Linear`, `re:PATTERN` (no comma in a flag); none: all"""
    exclude: tuple[Text, ...] = ()
    """weights that are never pruned, selected likewise; it wins over include, and they count in no budget"""


class ThreatSettings(Settings):
    norm: Annotated[Literal["inf", "2", "1"], Written] = "inf"
    """norm of the perturbation; 1 is for evaluating with AutoAttack's attacks only"""
    eps: NonNegative = 8 / 255
    """its largest size in pixel units, pixels in [0, 1]; fractions such as 8/255 are read"""

    @model_validator(mode="after")
    def _within_the_box(self) -> "ThreatSettings":
        if self.norm == "inf" and self.eps > 1:
            said = f"eps {self.eps:g} under norm inf allows every image with pixels in [0, 1]"
            raise ValueError(f"{said}; did you mean {self.eps:g}/255?")
        return self

    @property
    def order(self) -> float:
        return math.inf if self.norm == "inf" else float(self.norm)


class AttackSettings(Settings):
    steps: Count = 10
    """steps of the attack in training and validation"""
    step: Positive = 0.25
    """step size as a share of eps (the paper's 0.0078 at eps 0.031)"""
    start_in_box: bool = True
    """random starts inside the box of pixels; false: they may leave it before the first step, as in published code"""


class PrecisionSettings(Settings):
    channels_last: bool = False
    """weights laid out NHWC in memory, in every stage of the run"""
    bf16: Literal["none", "attack", "step", "both"] = "none"
    """autocast to bfloat16 in training: in the attack, in the optimiser's step, or both; measuring stays float32"""
    compile: bool = False
    """torch.compile in training; needs a C++ compiler on a CPU"""


class TrainingSettings(Settings):
    source: Place | None = None
    """begin from this safetensors file instead of the stage before"""
    objective: Text = "pgd-at"
    """what is minimised (`harp list`)"""
    beta: NonNegative | None = None
    """weight of the divergence from the clean answers in trades and mart; none: 6 and 5, their papers' values"""
    replays: Count | None = None
    """optimiser steps a batch is used for in free-at; none: 4"""
    guard_every: Span = "1ep"
    """how often fast-at checks that PGD finds no more than its one step does"""
    awp: NonNegative = 0.0
    """adversarial weight perturbation (AWP), as a share of each weight's norm; its paper's 0.005 to 0.01; 0: off"""
    awp_warmup: Whole = 0
    """epochs before AWP begins"""
    epochs: Count = 100
    """passes over the training images"""
    batch_size: Count = 128
    """images per batch"""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """who makes the steps: SGD with momentum, or AdamW"""
    lr: Positive = 0.1
    """largest learning rate"""
    momentum: Portion = 0.9
    """momentum of SGD, or AdamW's first beta"""
    weight_decay: NonNegative = 5e-4
    """weight decay of all that trains"""
    schedule: Literal["cosine", "cosine-epochs", "warm", "constant"] = "cosine"
    """course of the learning rate; cosine-epochs is the published code's, which lags by an epoch"""
    batch_norm: Literal["adversarial", "mixed"] = "adversarial"
    """statistics from the loss's batches only, or, as published, from a clean one before each attack, too"""
    selection: Literal["best", "last"] = "best"
    """keep the epoch of highest robust accuracy on the held-out images, or the last; never the test set"""
    validate_every: Span = "1ep"
    """how often to measure and record, e.g. 1ep or 500it"""
    checkpoint_every: Span = "1ep"
    """how often to write a checkpoint"""


class PretrainSettings(TrainingSettings):
    pass


class PruneSettings(TrainingSettings):
    epochs: Count = 20
    """passes over the training images"""
    method: Text = "harp"
    """pruning method (`harp list`)"""
    options: dict[Word, Plain] = {}
    """the method's own settings by name (`harp list methods NAME` tells them), as in --prune.options.gamma 0.02"""
    granularity: Granularity = "weights"
    """what is kept or removed as one: single weights; rows of kernels, kernels or filters, which are masked; or whole
    channels, which then really go"""
    keep: Share = 0.01
    """share that stays: of the prunable weights (model.include, model.exclude), or of what `of` names"""
    of: Literal["parameters", "macs"] | None = None
    """what `keep` is a share of; none: multiply-accumulates for channels, as published, and parameters for all else"""
    floor: Part = 0.1
    """no layer keeps less than this share of `keep`; the paper's alpha"""

    @property
    def measure(self) -> Literal["parameters", "macs"]:
        return self.of or ("macs" if self.granularity == "channels" else "parameters")


class FinetuneSettings(TrainingSettings):
    masks: Place | None = None
    """masks for `source`, a safetensors file of bool tensors"""
    lr: Positive = 0.01
    """largest learning rate"""


class EvaluationSettings(Settings):
    attacks: tuple[Text, ...] = ("fgsm", "pgd", "cw")
    """attacks (`harp list`), or one of AutoAttack's versions: standard, plus, rand; clean is always measured"""
    engine: Literal["official", "harp"] | None = None
    """who runs AutoAttack's attacks: its authors' package or harp; none: the package whole versions, harp others"""
    bf16: bool = False
    """harp's own attacks search in bfloat16; float32 judges what they find, but that is no headline number"""
    steps: Count = 20
    """steps of pgd and cw; AutoAttack's attacks have their published settings"""
    restarts: Count = 3
    """random restarts of pgd and cw; the worst counts"""
    step: Positive = 0.25
    """step size of pgd and cw as a share of eps"""
    batch_size: Count = 250
    """images per batch; each finished batch is saved"""
    images: Count | None = None
    """evaluate so many test images, drawn from each class in proportion, the same for every seed; none: all"""
    curve: Whole = 0
    """find the nearest adversarial images of so many by FAB and draw robust accuracy against eps; 0: no curve"""
    doubts: Whole = 128
    """examine so many images for signs of false robustness; 0: none"""
    acknowledge: tuple[Text, ...] = ()
    """doubts (`harp list`) that were looked into and do not take the robust accuracy's place"""


class ExportSettings(Settings):
    values: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    """numbers of the package: fp32 keeps every bit; the others are smaller, and what they cost is measured"""
    onnx: bool = False
    """write model.onnx, too, checked by ONNX Runtime"""


class Recipe(Settings):
    name: Word = "custom"
    """a word for the run; part of its folder's name"""
    seed: Seed = 0
    """seed of every random draw"""
    device: Text = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one"""
    threads: Threads | None = None
    """processor threads; none: torch's own choice"""
    plugins: tuple[Text, ...] = ()
    """Python files or modules that are loaded first, and may register methods, objectives, attacks, ... by name"""
    data: DataSettings = DataSettings()
    """images"""
    model: ModelSettings = ModelSettings()
    """network"""
    threat: ThreatSettings = ThreatSettings()
    """what an attacker may do"""
    attack: AttackSettings = AttackSettings()
    """the attack trained against"""
    precision: PrecisionSettings = PrecisionSettings()
    """how training computes"""
    pretrain: PretrainSettings = PretrainSettings()
    """adversarial training of the dense network"""
    prune: PruneSettings = PruneSettings()
    """learning what to keep"""
    finetune: FinetuneSettings = FinetuneSettings()
    """training what is left"""
    evaluation: EvaluationSettings = EvaluationSettings()
    """attacks on the results"""
    export: ExportSettings = ExportSettings()
    """the files to ship"""
