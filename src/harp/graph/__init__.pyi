"""What the room gives, each name loaded when it is first used: graphs are read and checked without PyTorch."""

from .capturing import (
    BATCH as BATCH,
    capture as capture,
    exported as exported,
)
from .checking import (
    check as check,
)
from .interpret import (
    Interpreter as Interpreter,
    run as run,
)
from .ir import (
    BFLOAT16 as BFLOAT16,
    FLOATS as FLOATS,
    Array as Array,
    ArrayGraph as ArrayGraph,
    Graph as Graph,
    Node as Node,
    Outline as Outline,
    Ref as Ref,
    Sparse as Sparse,
    SparseArray as SparseArray,
    Value as Value,
    dtype_name as dtype_name,
    stored as stored,
)
from .meta import (
    dtype as dtype,
    shapes as shapes,
)
from .propagating import (
    Unknown as Unknown,
    by_nobody as by_nobody,
    left_to_torch as left_to_torch,
    propagated as propagated,
)
from .rules import (
    Blank as Blank,
)
from .tensors import (
    to_arrays as to_arrays,
    to_tensors as to_tensors,
)
