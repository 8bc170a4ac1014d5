"""What `import harp` gives, each name loaded when it is first used; type checkers read it here."""

from .attacks import (
    APGD as APGD,
)
from .attacks import (
    ATTACKS as ATTACKS,
)
from .attacks import (
    CWL2 as CWL2,
)
from .attacks import (
    FAB as FAB,
)
from .attacks import (
    PGD as PGD,
)
from .attacks import (
    Official as Official,
)
from .attacks import (
    Square as Square,
)
from .attacks import (
    autoattack as autoattack,
)
from .data import (
    DATA as DATA,
)
from .data import (
    Loader as Loader,
)
from .data import (
    Resident as Resident,
)
from .errors import (
    HarpError as HarpError,
)
from .evaluation import (
    DOUBTS as DOUBTS,
)
from .evaluation import (
    balanced_accuracy as balanced_accuracy,
)
from .evaluation import (
    evaluate as evaluate,
)
from .evaluation import (
    examine as examine,
)
from .evaluation import (
    mcnemar as mcnemar,
)
from .evaluation import (
    radius_at as radius_at,
)
from .evaluation import (
    security_curve as security_curve,
)
from .evaluation import (
    spread as spread,
)
from .evaluation import (
    summary as summary,
)
from .export import (
    Deployed as Deployed,
)
from .export import (
    bake as bake,
)
from .export import (
    load as load,
)
from .export import (
    pack as pack,
)
from .export import (
    to_onnx as to_onnx,
)
from .models import (
    MODELS as MODELS,
)
from .models import (
    Logits as Logits,
)
from .models import (
    Normalised as Normalised,
)
from .models import (
    plain as plain,
)
from .networks.benchmark import (
    benchmark as benchmark,
)
from .networks.named import (
    load_model as load_model,
)
from .objectives import (
    AWP as AWP,
)
from .objectives import (
    MART as MART,
)
from .objectives import (
    OBJECTIVES as OBJECTIVES,
)
from .objectives import (
    PGDAT as PGDAT,
)
from .objectives import (
    TRADES as TRADES,
)
from .objectives import (
    FastAT as FastAT,
)
from .objectives import (
    FreeAT as FreeAT,
)
from .objectives import (
    Natural as Natural,
)
from .pruners import (
    METHODS as METHODS,
)
from .pruners import (
    Course as Course,
)
from .pruners import (
    FlyingBird as FlyingBird,
)
from .pruners import (
    FlyingBirdOptions as FlyingBirdOptions,
)
from .pruners import (
    Harp as Harp,
)
from .pruners import (
    HarpOptions as HarpOptions,
)
from .pruners import (
    Hydra as Hydra,
)
from .pruners import (
    Magnitude as Magnitude,
)
from .pruners import (
    MagnitudeOptions as MagnitudeOptions,
)
from .pruners import (
    Masked as Masked,
)
from .pruners import (
    Moment as Moment,
)
from .pruners import (
    MovingMasks as MovingMasks,
)
from .pruners import (
    Options as Options,
)
from .pruners import (
    Pruner as Pruner,
)
from .pruners import (
    RatesOnly as RatesOnly,
)
from .pruners import (
    Reparam as Reparam,
)
from .pruners import (
    Role as Role,
)
from .pruners import (
    ScoresOnly as ScoresOnly,
)
from .pruners import (
    ScoresOptions as ScoresOptions,
)
from .pruners import (
    Scoring as Scoring,
)
from .pruners import (
    SearchWarning as SearchWarning,
)
from .sparsity import (
    ALLOCATIONS as ALLOCATIONS,
)
from .sparsity import (
    Budget as Budget,
)
from .sparsity import (
    ChannelUnits as ChannelUnits,
)
from .sparsity import (
    Masks as Masks,
)
from .sparsity import (
    Site as Site,
)
from .sparsity import (
    Sites as Sites,
)
from .sparsity import (
    Units as Units,
)
from .sparsity import (
    Weights as Weights,
)
from .sparsity import (
    find_channels as find_channels,
)
from .sparsity import (
    find_sites as find_sites,
)
from .sparsity import (
    find_units as find_units,
)
from .sparsity import (
    remove as remove,
)
from .sparsity import (
    resize as resize,
)
from .sparsity import (
    trace_macs as trace_macs,
)
from .threats import (
    Threat as Threat,
)
from .training import (
    Precision as Precision,
)
from .training import (
    adamw as adamw,
)
from .training import (
    fit as fit,
)
from .training import (
    sgd as sgd,
)

__version__: str
