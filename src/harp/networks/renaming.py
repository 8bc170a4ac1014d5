"""Whose weight is whose, where a file calls the layers of a network otherwise than the network does."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from torch import Tensor

from harp.errors import HarpError

BATCHES = "num_batches_tracked"  # how many batches a batch norm saw; older files lack it, and in eval mode nobody asks
ALIKE = (
    {"shortcut", "downsample", "convshortcut", "conv_shortcut", "skip"},
    {"fc", "linear", "classifier", "head"},
)
"""Words for one and the same part of a network, in lower case."""
NAMED = 5

Named = Mapping[str, Tensor]
Shape = tuple[int, ...]


def match_names(theirs: Named, ours: Named, ordered: bool, origin: str) -> dict[str, str]:
    """For each name in `ours` but those of `num_batches_tracked` that are not in the file, the name in `theirs`.

    Names may be equal; differ by what stands before all of them, or by words that are `ALIKE`; or else lead to the
    same shapes layer by layer. There layers of equal shapes are matched in order, by their numbers, which must be the
    order of the file, too, where it is `ordered` as the network was defined, and words must not contradict. Every name
    is used once. Raises `HarpError` with the names in the file and those nearest to them where none of this holds.
    """
    plain, own = _without_batches(theirs), _without_batches(ours)
    found = _by_words(plain, own)
    if found is None:
        found = _by_order(plain, own, ordered)
    if found is None:
        raise HarpError(_refusal(plain, own, origin))
    wrong = [(other, name) for name, other in found.items() if plain[other] != own[name]]
    if wrong:
        (other, name), count = wrong[0], len(wrong)
        told = f"{other} is {list(plain[other])} there, and {name} is {list(own[name])} here"
        raise HarpError(f"{origin} is another network's: {told} ({count} of {len(own)} shapes differ)")
    modules = {_module(name): _module(other) for name, other in found.items()}
    counted = {name: f"{modules.get(_module(name))}.{BATCHES}".removeprefix(".") for name in ours if name not in own}
    found |= {name: other for name, other in counted.items() if other in theirs}
    if left := [name for name in theirs if name not in found.values()]:
        raise HarpError(_refusal(left, own, origin))
    return found


def _without_batches(names: Named) -> dict[str, Shape]:
    return {name: tuple(value.shape) for name, value in names.items() if name.rpartition(".")[2] != BATCHES}


def _by_words(theirs: Iterable[str], ours: Iterable[str]) -> dict[str, str] | None:
    """The match by names alone, apart from what they all begin with; None where one is left over or stands for two."""
    named, own = (_plain(tuple(names)) for names in (theirs, ours))
    if named is None or own is None or named.keys() != own.keys():
        return None
    return {own[word]: named[word] for word in own}


def _plain(names: Sequence[str]) -> dict[str, str] | None:
    parts = [name.split(".") for name in names]
    shared = 0
    # A name's last word is never part of what stands before all.
    while parts and all(len(one) > shared + 1 and one[shared] == parts[0][shared] for one in parts):
        shared += 1
    plain = {".".join(map(_word, one[shared:])): name for one, name in zip(parts, names, strict=True)}
    return plain if len(plain) == len(names) else None


def _word(part: str) -> str:
    low = part.lower()
    return next((min(words) for words in ALIKE if low in words), part)


def _by_order(theirs: Mapping[str, Shape], ours: Mapping[str, Shape], ordered: bool) -> dict[str, str] | None:
    """The match of layers that hold the same shapes under the same last words, the first with the first."""
    counted = _layers(dict(sorted(theirs.items(), key=lambda item: _numbers(item[0]))))
    own = _layers(ours)
    if {form: len(names) for form, names in counted.items()} != {form: len(names) for form, names in own.items()}:
        return None
    if ordered and _layers(theirs) != counted:
        return None  # two orders, and nothing says which one is the network's
    pairs = {name: other for form in own for name, other in zip(own[form], counted[form], strict=True)}
    if any(_last_word(name) not in ("", _last_word(other)) for name, other in pairs.items()):
        return None
    return {name: _joined(pairs[_module(name)], name.rpartition(".")[2]) for name in ours}


def _layers(names: Mapping[str, Shape]) -> dict[frozenset[tuple[str, Shape]], list[str]]:
    """The layers, in order, by what they hold."""
    held: dict[str, set[tuple[str, Shape]]] = defaultdict(set)
    for name, shape in names.items():
        held[_module(name)].add((name.rpartition(".")[2], shape))
    found: dict[frozenset[tuple[str, Shape]], list[str]] = defaultdict(list)
    for module, entries in held.items():
        found[frozenset(entries)].append(module)
    return dict(found)


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _joined(module: str, leaf: str) -> str:
    return f"{module}.{leaf}" if module else leaf


def _last_word(module: str) -> str:
    """`shortcut` of `layer2.0.downsample.1`; nothing where all parts are numbers."""
    words = [part for part in module.split(".") if not part.isdigit()]
    return _word(words[-1]) if words else ""


def _numbers(name: str) -> list[tuple[str, int]]:
    """A key that sorts `block10` after `block2`."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _refusal(theirs: Iterable[str], ours: Iterable[str], origin: str) -> str:
    names = list(theirs)
    strange, missing = ([name for name in one if name not in two] for one, two in ((names, ours), (ours, names)))
    if not strange:
        return f"{origin} is another network's: it holds {few(names)}, and lacks {few(missing)}"
    near = dict.fromkeys(other for name in strange[:NAMED] for other in get_close_matches(name, ours, n=1, cutoff=0))
    return f"{origin} is another network's: it holds {few(strange)}, and the nearest names here are {few(near)}"


def few(names: Iterable[str]) -> str:
    """`a, b, c, d, e and 7 more`; `nothing` of none."""
    known = list(names)
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return f"{', '.join(known[:NAMED])}{more}" if known else "nothing"
