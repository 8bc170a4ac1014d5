"""What the room gives, each name loaded when it is first used: packages are read without PyTorch."""

from .asked import (
    check_images as check_images,
)
from .counting import (
    count as count,
    looks_like_one as looks_like_one,
    weight_names as weight_names,
)
from .files import (
    Package as Package,
    check_file as check_file,
    read as read,
    sizes as sizes,
    write as write,
)
from .manifest import (
    Counts as Counts,
    Manifest as Manifest,
)
from .precision import (
    PRECISIONS as PRECISIONS,
)
from .reading import (
    Unpacked as Unpacked,
    unpack as unpack,
)
from .sizing import (
    Sizes as Sizes,
    TensorSize as TensorSize,
)
