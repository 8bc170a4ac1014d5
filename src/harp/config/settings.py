"""A recipe: every number of a run in one frozen, typed tree.

Defaults are the paper's values, except where its code departs from it or from good practice, which is a choice:
`schedule`, `batch_norm` and `selection`; and eps is the customary 8/255, where the paper's code has 0.031.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, model_validator

from harp.config.training import AttackSettings, FinetuneSettings, PretrainSettings, PruneSettings, Settings
from harp.config.values import (
    Count,
    FilePath,
    NonNegative,
    Norm,
    Part,
    Portion,
    Positive,
    Real,
    Seed,
    Share,
    Size,
    Text,
    Threads,
    Whole,
    Word,
)

KINDS = ("pretrain", "prune", "finetune")


def _turn(item: Any) -> Any:
    """One item of `stages`: a stage's name, or that name with settings of its own."""
    kind, own = (item, {}) if isinstance(item, str) else next(iter(item.items()), ("", {}))
    if kind not in KINDS or (not isinstance(item, str) and len(item) != 1) or not isinstance(own or {}, dict):
        raise ValueError(f"expected one of {', '.join(KINDS)}, with settings as in `prune: {{keep: 0.1}}` or without")
    return item if own else kind


Turn = Annotated[str | dict[str, Any], AfterValidator(_turn)]


class DataSettings(Settings):
    name: Text = "digits"
    """data set (`harp list`)"""
    path: FilePath | None = None
    """folder or file the set is read from; none: the set's own place"""
    relabel: bool = False
    """number labels anew from 0, in order, where they count from 1 or leave numbers out and have no class names"""
    train: Count | None = None
    """train on this many images, classes in proportion; none: all"""
    holdout: Portion = 0.1
    """share of the training images held out, classes in proportion, to select the best epoch"""
    seed: Seed | None = None
    """seed by which the training images are drawn and held out; none: the run's, so that runs differ in their images"""
    flip: bool | None = None
    """mirror training images at random; none: where the set allows it"""
    pad: Whole | None = None
    """pad by this many pixels and crop at random; none: the set's own value, without crop"""
    crop: tuple[Share, Share] | None = None
    """cut windows of so much of a training image's area out at random and resize them, as 0.08, 1; none: no windows"""
    jitter: Part = 0.0
    """change brightness, contrast and saturation of training images at random, by up to this share of each"""
    size: Size | None = None
    """height and width to which pictures are resized, one number for both; none: as they are, all alike"""
    centre: Share = 1.0
    """share of a resized picture's sides that is kept where no window is drawn; ImageNet's 224 of 256 is 0.875"""
    stream: Literal["auto", "always", "never"] = "auto"
    """read pictures as they are needed, not all at first; auto: what would take more than a quarter of the memory"""
    workers: Threads | None = None
    """threads that decode pictures; none: one a processor"""

    @model_validator(mode="after")
    def _fits(self) -> "DataSettings":
        if self.crop is not None and self.crop[0] > self.crop[1]:
            raise ValueError(f"crop is {self.crop[0]:g} to {self.crop[1]:g}; expected the smaller share first")
        if self.crop is not None and self.pad:
            raise ValueError(f"pad is {self.pad} beside crop, which cuts windows out, too; expected one of them")
        if self.centre < 1 and self.size is None:
            raise ValueError(f"centre is {self.centre:g} where no picture is resized; expected size, too")
        return self


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

    @model_validator(mode="after")
    def _both_or_neither(self) -> "ModelSettings":
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"{'std' if self.mean is None else 'mean'} is given alone; expected mean and std together")
        return self

    @property
    def normalise(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation per channel, where images are normalised."""
        return None if self.mean is None or self.std is None else (self.mean, self.std)


class ThreatSettings(Settings):
    norm: Norm = "inf"
    """norm of the perturbation: inf, 2 or 1 (or Linf, L2, L1); 1 is for evaluating with AutoAttack's attacks only"""
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


class PrecisionSettings(Settings):
    channels_last: bool = False
    """weights laid out NHWC in memory, in every stage of the run"""
    bf16: Literal["none", "attack", "step", "both"] = "none"
    """autocast to bfloat16 in training: in the attack, in the optimizer's step, or both; measuring stays float32"""
    compile: bool = False
    """torch.compile in training; needs a C++ compiler on a CPU"""
    recompute: bool = False
    """activations of blocks and of long rows of layers are computed again for the backward pass, which takes a third
    more time and much less memory; every number is as without"""

    @model_validator(mode="after")
    def _once(self) -> "PrecisionSettings":
        if self.compile and self.recompute:
            raise ValueError("compile and recompute are both true; torch.compile decides itself what is computed again")
        return self


class RanksSettings(Settings):
    batch_norm: Literal["synchronised", "local"] = "synchronised"
    """of several processes (`torchrun`): batch norms see the whole batch, as one process does, or each its own part"""


class EvaluationSettings(Settings):
    attacks: tuple[Text, ...] = ("fgsm", "pgd", "cw")
    """attacks (`harp list`), or one of AutoAttack's versions: standard, plus, rand; clean is always measured"""
    engine: Literal["official", "harp"] | None = None
    """who runs AutoAttack's attacks: its authors' package or harp; none: the package whole versions, harp others"""
    bf16: bool = False
    """harp's own attacks search in bfloat16; float32 judges what they find, but that is no headline number"""
    steps: Count = 20
    """steps of pgd and cw; harp's other attacks have their published settings"""
    restarts: Count = 3
    """random restarts of pgd and cw; the worst counts"""
    step: Positive = 0.25
    """step size of pgd and cw as a share of eps"""
    eot: Count = 1
    """answers that each query is the mean of, for networks that draw random numbers; right is what all are right of"""
    batch_size: Count = 250
    """images per batch; each finished batch is saved"""
    networks: Literal["all", "last"] = "all"
    """measure the network of every training stage, the dense one included, or the last stage's alone"""
    images: Count | None = None
    """evaluate so many test images, drawn from each class in proportion, the same for every seed; none: all"""
    curve: Whole = 0
    """find the nearest adversarial images of so many and draw robust accuracy against eps; 0: no curve"""
    curve_by: Literal["fab", "fmn", "both"] = "fab"
    """the attack that finds them: FAB, FMN, or both, the nearer image counting"""
    doubts: Whole = 128
    """examine so many images for signs of false robustness; 0: none"""
    corruptions: tuple[Text, ...] = ()
    """natural corruptions to measure accuracy under, too (`harp list corruptions`), or all; no part of worst"""
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
    boards: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """where metrics are shown, too, while training: tensorboard, wandb, mlflow; they change nothing of the run"""
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
    ranks: RanksSettings = RanksSettings()
    """several processes on one run; a batch size is that of all of them together"""
    stages: tuple[Turn, ...] = KINDS
    """the training stages in their order; one may come again, with settings over its section's"""
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
