"""Numbers as readers expect them: percent with one decimal, intervals, eps in 255ths, sizes and times."""

import ast
import math
from collections.abc import Mapping

from harp.threats import Threat, exact
from harp.written import Accuracy


def percent(value: float | None) -> str:
    """`83.2 %`; below 1 % two significant digits (`0.12 %`); a dash for None."""
    if value is None:
        return "–"
    size = abs(100 * value)
    if 0 < size < 0.995:
        return f"{100 * value:.{1 - math.floor(math.log10(size))}f} %"
    return f"{100 * value:.1f} %"


def fact(value: object) -> object:
    """`value` itself; a dash for None, and digests by file as `net.py 0123456789ab`, with their first twelve digits."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {str(digest)[:12]}" for name, digest in value.items())
    return "–" if value is None else value


def attack(text: str) -> str:
    """`APGD with loss dlr, 100 steps, ...` of an attack as it is recorded, which is how Python would write it.

    Settings that are off are left out; what is not written so, such as an attack of one's own, is `text` itself.
    """
    try:
        call = ast.parse(text, mode="eval").body
        while isinstance(call, ast.Call) and (inner := _settings(call).get("attack")) is not None:
            call = inner
        settings = {name: ast.literal_eval(value) for name, value in _settings(call).items()}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    words = [
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in settings.items()
        if value is not None and value is not False
    ]
    return f"{_called(call)} with {', '.join(words)}" if words else _called(call)


def _settings(call: ast.expr) -> dict[str, ast.expr]:
    if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
        raise ValueError
    return {each.arg: each.value for each in call.keywords if each.arg}


def _called(call: ast.expr) -> str:
    return call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""


def share(part: int, whole: int) -> str:
    """`part` in percent of `whole`, which is above 0."""
    return percent(part / whole)


def interval(value: Accuracy | None) -> str:
    """`83.2 (79.1-86.6)`, in percent with the 95 % interval; a dash where not measured, doubts where there are any."""
    if value is None:
        return "–"
    if value.doubts:
        return f"in doubt: {', '.join(value.doubts)}"
    return f"{100 * value.accuracy:.1f} ({span(value)}){'' if value.examined else ', not examined'}"


def span(value: Accuracy) -> str:
    """`79.1-86.6`: the ends of the 95 % interval, in percent."""
    return f"{100 * value.low:.1f}-{100 * value.high:.1f}"


def count(value: float) -> str:
    """`1,234,567`."""
    return f"{value:,}"


def threat_name(threat: Threat) -> str:
    """`L∞, eps = 8/255`."""
    return f"L{'∞' if threat.norm == math.inf else f'{threat.norm:g}'}, eps = {exact(threat.eps)}"


def file_size(count_of_bytes: int) -> str:
    """`12.3 kB`: decimal units, three significant digits or the whole number of bytes below 1,000."""
    value, unit = float(count_of_bytes), "bytes"
    for larger in ("kB", "MB", "GB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    if unit == "bytes":
        return f"{count_of_bytes} bytes"
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f} {unit}"


def duration(seconds: float | None) -> str:
    """`4.2 s`, `12 min 5 s` or `3 h 20 min`; a dash where it was not recorded."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
