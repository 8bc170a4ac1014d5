"""What a file that is no package seems to be."""

# Of a file's first bytes, in lower case where they are text.
_SIGNS = (
    (b"pk\x03\x04", "a zip archive, such as torch.save writes"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"<!doctype html", "an HTML page, perhaps a download that failed"),
    (b"<html", "an HTML page, perhaps a download that failed"),
    (b"version https://git-lfs", "a Git LFS pointer; the file itself was not fetched"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\x89hdf", "an HDF5 file"),
    (b"\x89png", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x93numpy", "a NumPy array"),
    (b"\x7felf", "a program"),
    (b"gguf", "a GGUF model"),
)


def looks_like(first: bytes, size: int) -> str:
    """`a zip archive, such as torch.save writes`: a guess from the first 512 bytes of a file of `size` bytes."""
    if size == 0:
        return "an empty file"
    head = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for sign, kind in _SIGNS:
        if head.startswith(sign) or first.lower().startswith(sign):
            return kind
    if first[257:262] == b"ustar":
        return "a tar archive"
    if first[8:9] == b"{" and int.from_bytes(first[:8], "little") < size:
        return "a safetensors file of another kind, such as a state dictionary"
    if first[8:10] == b'{"':
        return "a safetensors file whose end is missing or whose start is damaged"
    if head[:1] in (b"{", b"["):
        return "JSON"
    try:
        first.decode()
    except UnicodeDecodeError as error:
        if error.start < len(first) - 3:
            return "no file harp knows"
    return "text" if first.isascii() and b"\0" not in first else "no file harp knows"
