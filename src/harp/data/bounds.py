"""What a file may ask for: sizes that it claims are compared with its own before memory is taken."""

from harp.errors import HarpError

FREE = 1 << 26  # bytes that any file may unpack to, however small it is
RATIO = 100  # beyond these: how many bytes may come of one; of photographs and drawings it is below 50
LARGEST = 1 << 28  # bytes of one encoded picture


def check_packed(where: str, size: int, packed: int) -> None:
    """Raises `HarpError` where `packed` bytes would unpack to so many, `size`, that no images can be in them."""
    if size > max(FREE, RATIO * packed):
        raise HarpError(
            f"{where} would unpack {packed:,} bytes to {size:,}; expected at most {RATIO} to one, as images need"
        )


def check_encoded(where: str, size: int) -> None:
    """Raises `HarpError` where one encoded picture is of more than `LARGEST` bytes."""
    if size > LARGEST:
        raise HarpError(f"{where} has {size:,} bytes; expected a picture of at most {LARGEST:,}")
