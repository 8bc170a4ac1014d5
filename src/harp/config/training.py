"""The settings of the three training stages, and what each section of a recipe is built on."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from harp.config.values import (
    Count,
    FilePath,
    Granularity,
    Measure,
    NonNegative,
    Part,
    Plain,
    Portion,
    Positive,
    Share,
    Span,
    Text,
    Whole,
    Word,
)


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class AttackSettings(Settings):
    steps: Count = 10
    """steps of the attack in training and validation"""
    step: Positive = 0.25
    """step size as a share of eps (the paper's 0.0078 at eps 0.031)"""
    start_in_box: bool = True
    """random starts inside the box of pixels; false: they may leave it before the first step, as in published code"""


class StageAttackSettings(Settings):
    steps: Count | None = None
    """steps of the attack in this stage; none: those of the run's attack"""
    step: Positive | None = None
    """its step size as a share of eps; none: that of the run's attack"""
    start_in_box: bool | None = None
    """its random starts inside the box of pixels; none: as the run's attack"""


class TrainingSettings(Settings):
    source: FilePath | None = None
    """begin from this safetensors file instead of the stage before"""
    objective: Text = "pgd-at"
    """what is minimised (`harp list`)"""
    attack: StageAttackSettings = StageAttackSettings()
    """the attack trained against in this stage, where it is another than the run's; validation keeps the run's"""
    beta: NonNegative | None = None
    """weight of the divergence from clean answers in trades, mart and stability, of the teacher in pwoa, and between
    two draws of noise in consistency; none: 6, 5, 6, 10 and 10"""
    sigma: Positive | None = None
    """deviation of the noise on images in gaussian, stability, consistency and smoothadv, pixels being from 0 to 1;
    none: 0.25"""
    draws: Count | None = None
    """draws of noise for each image in smoothadv, under which it is attacked and trained; none: 2"""
    teacher: FilePath | None = None
    """weights of the network whose answers pwoa, ard, rslad and adaad learn, a safetensors file; none: the dense
    network of the run"""
    temperature: Positive | None = None
    """what pwoa and ard divide the logits of both by; none: 30 and 1"""
    alpha: Part | None = None
    """share that attacked images have in the loss of ard, rslad and adaad, clean ones the rest; none: 1, 5/6 and 1"""
    hsic_x: NonNegative | None = None
    """weight in pwoa of what layers tell of the images; none: 2e-5, which its paper has in fine-tuning only"""
    hsic_y: NonNegative | None = None
    """weight in pwoa of what layers tell of the labels; none: 1e-4, likewise"""
    attacked: Part | None = None
    """share of the batches that pwoa attacks; none: 0"""
    replays: Count | None = None
    """optimizer steps a batch is used for in free-at; none: 4"""
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
    accumulate: Count = 1
    """equal parts that a batch is worked through in, for as much less memory; batch norms see the parts"""
    clip: Positive | None = None
    """largest norm of a step's gradient over all that trains, pruned weights aside; none: as it is"""
    smoothing: Part = 0.0
    """share of each label that is spread evenly over all classes, where the loss has a cross-entropy of labels"""
    cutmix: Part = 0.0
    """share of the batches in whose images a box is another image's, and the label by its area; with all objectives but
    mart, fast-at and pwoa"""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """who makes the steps: SGD with momentum, or AdamW"""
    lr: Positive = 0.1
    """largest learning rate"""
    lrs: dict[Word, Positive] = {}
    """largest learning rates by role (weights, scores, rates, norms, others), where they are other than `lr`"""
    momentum: Portion = 0.9
    """momentum of SGD, or AdamW's first beta"""
    weight_decay: NonNegative = 5e-4
    """weight decay of all that trains"""
    average: Portion = 0.0
    """share of the old average that stays at each step (weight averaging, EMA: 0.99 to 0.9998); kept is what validates
    better, average or weights, and with selection last the average; 0: off"""
    schedule: Literal["cosine", "cosine-epochs", "warm", "constant"] = "cosine"
    """course of the learning rate; cosine-epochs is the published code's, which lags by an epoch"""
    batch_norm: Literal["adversarial", "mixed"] = "adversarial"
    """statistics from the loss's batches only, or, as published, from a clean one before each attack, too"""
    renew_norms: Whole = 0
    """batches of the stage's images, as it attacks them, from which batch norms' statistics are taken anew in whatever
    network is validated or kept; 0: as training left them"""
    selection: Literal["best", "last"] = "best"
    """keep the epoch of highest robust accuracy on the held-out images, or the last; never the test set"""
    validate_every: Span = "1ep"
    """how often to measure and record, e.g. 1ep or 500it"""
    checkpoint_every: Span = "1ep"
    """how often to write a checkpoint"""

    @model_validator(mode="after")
    def _in_equal_parts(self) -> "TrainingSettings":
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size is {self.batch_size}, which accumulate {self.accumulate} does not divide")
        return self


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
    of: Measure | None = None
    """what `keep` is a share of; none: multiply-accumulates for channels, as published, and parameters for all else;
    latency is the time of one image in harp's engine, as its planner reckons it, for single weights only"""
    floor: Part = 0.1
    """no layer keeps less than this share of `keep`; the paper's alpha"""

    connect: bool = False
    """swap weights at the end of the search until every class can be reached from the image, for budgets so small that
    a layer may be cut through; single weights only"""

    @model_validator(mode="after")
    def _connects_weights(self) -> "PruneSettings":
        if self.connect and self.granularity != "weights":
            raise ValueError(f"connect swaps single weights, and granularity is {self.granularity}; set it to false")
        return self

    @model_validator(mode="after")
    def _times_weights(self) -> "PruneSettings":
        if self.of == "latency" and self.granularity != "weights":
            raise ValueError(f"latency is a budget of single weights, and granularity is {self.granularity}; take macs")
        return self

    @property
    def measure(self) -> Measure:
        return self.of or ("macs" if self.granularity == "channels" else "parameters")


class FinetuneSettings(TrainingSettings):
    masks: FilePath | None = None
    """masks for `source`, a safetensors file of bool tensors"""
    rewind: bool = False
    """begin anew from the weights that the network is built with, under the masks: a lottery ticket"""
    lr: Positive = 0.01
    """largest learning rate"""
