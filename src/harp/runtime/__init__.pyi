"""What the room gives, each name loaded when it is first used: the engine alone runs without PyTorch."""

from .alone import (
    Alone as Alone,
)
from .engine import (
    Engine as Engine,
    Fallback as Fallback,
    compile as compile,
)
from .native import (
    Precision as Precision,
    built as built,
    variants as variants,
)
from .plans import (
    plan_bytes as plan_bytes,
)
from .pricing import (
    cycles as cycles,
)
