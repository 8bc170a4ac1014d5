"""What `import harp` gives, each name loaded when it is first used; type checkers read it here."""

from .arena import (
    Grid as Grid,
    arena as arena,
)
from .attacks import (
    APGD as APGD,
    ATTACKS as ATTACKS,
    CWL2 as CWL2,
    FAB as FAB,
    PGD as PGD,
    Cascade as Cascade,
    Official as Official,
    Square as Square,
    autoattack as autoattack,
)
from .certify import (
    Bounds as Bounds,
    Certificate as Certificate,
    Smoothed as Smoothed,
    Smoothing as Smoothing,
)
from .data import (
    DATA as DATA,
    Loader as Loader,
    Resident as Resident,
)
from .errors import (
    HarpError as HarpError,
)
from .evaluation import (
    DOUBTS as DOUBTS,
    Evaluation as Evaluation,
    Evidence as Evidence,
    Expected as Expected,
    Transferred as Transferred,
    balanced_accuracy as balanced_accuracy,
    evaluate as evaluate,
    examine as examine,
    mcnemar as mcnemar,
    radius_at as radius_at,
    save_images as save_images,
    security_curve as security_curve,
    spread as spread,
    summary as summary,
)
from .export import (
    Deployed as Deployed,
    Rebuilt as Rebuilt,
    bake as bake,
    latency as latency,
    load as load,
    pack as pack,
    to_onnx as to_onnx,
    to_vnnlib as to_vnnlib,
)
from .hub import (
    from_pretrained as from_pretrained,
    push_to_hub as push_to_hub,
    save_pretrained as save_pretrained,
)
from .models import (
    MODELS as MODELS,
    Logits as Logits,
    Normalised as Normalised,
    plain as plain,
)
from .networks.benchmark import (
    benchmark as benchmark,
)
from .networks.named import (
    load_model as load_model,
)
from .objectives import (
    ARD as ARD,
    AWP as AWP,
    MART as MART,
    OBJECTIVES as OBJECTIVES,
    PGDAT as PGDAT,
    RSLAD as RSLAD,
    TRADES as TRADES,
    AdaAD as AdaAD,
    Consistency as Consistency,
    CutMix as CutMix,
    Distillation as Distillation,
    FastAT as FastAT,
    FreeAT as FreeAT,
    Gaussian as Gaussian,
    Natural as Natural,
    SmoothAdv as SmoothAdv,
    Stability as Stability,
)
from .pruners import (
    ACDC as ACDC,
    BCSP as BCSP,
    DNR as DNR,
    MAD as MAD,
    METHODS as METHODS,
    RADMM as RADMM,
    RST as RST,
    S2AP as S2AP,
    ACDCOptions as ACDCOptions,
    AnpVs as AnpVs,
    AnpVsOptions as AnpVsOptions,
    BCSPOptions as BCSPOptions,
    Chord as Chord,
    ChordOptions as ChordOptions,
    Course as Course,
    Cyclic as Cyclic,
    CyclicOptions as CyclicOptions,
    DNROptions as DNROptions,
    Feather as Feather,
    FeatherOptions as FeatherOptions,
    FlyingBird as FlyingBird,
    FlyingBirdOptions as FlyingBirdOptions,
    FlyingBirdPlus as FlyingBirdPlus,
    FlyingBirdPlusOptions as FlyingBirdPlusOptions,
    Harp as Harp,
    HarpOptions as HarpOptions,
    Hydra as Hydra,
    L1Filters as L1Filters,
    Li20 as Li20,
    Li20Options as Li20Options,
    MADOptions as MADOptions,
    Magnitude as Magnitude,
    MagnitudeOptions as MagnitudeOptions,
    Masked as Masked,
    Moment as Moment,
    MovingMasks as MovingMasks,
    Options as Options,
    Pruner as Pruner,
    PwoA as PwoA,
    PwoAOptions as PwoAOptions,
    RADMMOptions as RADMMOptions,
    RatesOnly as RatesOnly,
    Reparam as Reparam,
    RobustBird as RobustBird,
    RobustBirdOptions as RobustBirdOptions,
    Role as Role,
    S2APOptions as S2APOptions,
    ScoresOnly as ScoresOnly,
    ScoresOptions as ScoresOptions,
    Scoring as Scoring,
    SearchWarning as SearchWarning,
    TwinRep as TwinRep,
    TwinRepOptions as TwinRepOptions,
)
from .pruning import (
    Pruned as Pruned,
    prune as prune,
)
from .ranks import (
    ALONE as ALONE,
    Ranks as Ranks,
    of_group as of_group,
)
from .sparsity import (
    ALLOCATIONS as ALLOCATIONS,
    Blocks as Blocks,
    Budget as Budget,
    ChannelUnits as ChannelUnits,
    Masks as Masks,
    Site as Site,
    Sites as Sites,
    Units as Units,
    Weights as Weights,
    find_channels as find_channels,
    find_sites as find_sites,
    find_units as find_units,
    remove as remove,
    resize as resize,
    trace_macs as trace_macs,
)
from .threats import (
    Threat as Threat,
)
from .training import (
    Average as Average,
    Precision as Precision,
    adamw as adamw,
    fit as fit,
    renew as renew,
    sgd as sgd,
)
from .tuning import (
    Tuning as Tuning,
    tune as tune,
)

__version__: str
