"""Neural networks made small without being made fragile: adversarially robust pruning.

What there is stands in `__init__.pyi`; a name is loaded when it is first used, so that `import harp` costs nothing.
"""

import lazy_loader

from harp.version import VERSION

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = VERSION
