"""The kinds of values a recipe may hold, with bounds that nobody meets who means what he writes."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from harp.clock import Step
from harp.notation import fraction, order_of

LONGEST = 4096  # characters of a word or a path
DIGITS = 100  # more than any number needs; Python itself stops at thousands
MOST = 10**9  # images, epochs, steps
SIDE = 2**14  # pixels
SEED = 2**63 - 1  # what torch takes


def _number(value: Any) -> Any:
    """Not `true` for 1, nor a text that only looks like a number; 8/255 may be written as just that."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    if not isinstance(value, str):
        return value
    if len(value) > DIGITS:
        raise ValueError(f"expected a number of at most {DIGITS} characters")
    return fraction(value) if "/" in value else value


def _norm(value: Any) -> Any:
    """ "inf", "2" or "1" for whatever people write for these."""
    if not isinstance(value, str | int | float) or (isinstance(value, str) and len(value) > DIGITS):
        return value
    try:
        return f"{order_of(value):g}"
    except ValueError:
        return value


def _size(value: Any) -> Any:
    """Height and width, of which one number is both; from a flag it comes as a list of one."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return (value, value) if isinstance(value, int | str) else value


def plain(text: str) -> str:
    """`text`, which files and terminals can hold; raises `ValueError` where it is no UTF-8 or holds a zero byte."""
    if "\0" in text or not _encodes(text):
        raise ValueError("expected text in UTF-8 without zero bytes; rename what it names")
    return text


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain_path(path: Path) -> Path:
    plain(str(path))
    return path


def _word(text: str) -> str:
    """Part of a folder's name, so it cannot lead elsewhere."""
    if re.fullmatch(r"[^/\\\x00-\x1f\x7f]{1,100}", text) is None or not text.strip(" ."):
        raise ValueError("expected a word for a folder: 1 to 100 characters without slashes, and not only dots")
    return plain(text)


def scalar(value: Any) -> Any:
    """A number, a truth, a text, or none: what a setting of a method can be; raises `ValueError` for others."""
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError("expected a single value: a number, a word, true, false or none")
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise ValueError(f"expected a word of at most {LONGEST} characters")
        return plain(value)
    if isinstance(value, int | float) and not abs(value) <= SEED:
        raise ValueError(f"expected a number of at most {SEED:.0e}")
    return value


Plain = Annotated[Any, BeforeValidator(scalar)]
Norm = Annotated[Literal["inf", "2", "1"], BeforeValidator(_norm)]
Number = BeforeValidator(_number)
Share = Annotated[float, Number, Field(gt=0, le=1)]
Portion = Annotated[float, Number, Field(ge=0, lt=1)]
Part = Annotated[float, Number, Field(ge=0, le=1)]
Positive = Annotated[float, Number, Field(ge=1e-12, le=1e6)]
NonNegative = Annotated[float, Number, Field(ge=0, le=1e6)]
Real = Annotated[float, Number, Field(ge=-1e6, le=1e6)]
Count = Annotated[int, Number, Field(ge=1, le=MOST)]
Whole = Annotated[int, Number, Field(ge=0, le=MOST)]
Side = Annotated[int, Number, Field(ge=1, le=SIDE)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_size)]
Seed = Annotated[int, Number, Field(ge=-SEED, le=SEED)]
Threads = Annotated[int, Number, Field(ge=1, le=4096)]
Text = Annotated[str, AfterValidator(plain)]
FilePath = Annotated[Path, AfterValidator(_plain_path)]
Word = Annotated[str, AfterValidator(_word)]
Measure = Literal["parameters", "macs", "latency"]  # what a budget is a share of
Granularity = Literal["weights", "vectors", "kernels", "filters", "channels"]
Span = Annotated[str, AfterValidator(lambda text: str(Step.parse(text)))]
