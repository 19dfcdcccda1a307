"""File signatures: what a file is by its first bytes, where it holds no weights for ViCE."""

from __future__ import annotations

_UNPACK = "unpack it first"
_CONVERT = "convert it with the library that wrote it, and torch.save the tensors by name"
_FETCH = "fetch the file itself"
#: First bytes to what such a file is, and the remedy.
_KINDS = (
    (b"version https://git-lfs", "a pointer of Git LFS and not the file", "run git lfs pull"),
    (b"\x1f\x8b", "packed with gzip", _UNPACK),
    (b"BZh", "packed with bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "packed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed with zstandard", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x93NUMPY", "a NumPy array", _CONVERT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it", _CONVERT),
    (b"GGUF", "a GGUF file", _CONVERT),
    (b"\x89PNG", "a PNG picture", _FETCH),
    (b"\xff\xd8\xff", "a JPEG picture", _FETCH),
    (b"%PDF", "a PDF document", _FETCH),
    (b"<", "a web page or other markup", f"the download has failed, {_FETCH}"),
)
#: Bytes that are looked at.
HEAD = 512
#: Where the header of a safetensors file begins; its length stands before it.
_HEADER = 8
#: How files of PyTorch begin: zip archives, and pickles of protocol 2 and later.
_PYTORCH = (b"PK\x03\x04", b"\x80")


def other_kind(head: bytes) -> str:
    """What a file is that holds no weights as PyTorch or safetensors write them.

    Args:
        head: Its first `HEAD` bytes.

    Returns:
        What it is, with the remedy; empty for what may be a file of weights.
    """
    if not head:
        return "it is empty: copy it again"
    for magic, kind, remedy in _KINDS:
        if head.startswith(magic):
            return f"it is {kind}: {remedy}"
    if _is_text(head):
        return f"it is text: {_FETCH}, or name the one that holds the weights"
    return ""


def is_safetensors(head: bytes, length: int) -> bool:
    """Whether a file is one of safetensors, whatever it is called.

    Args:
        head: Its first `HEAD` bytes.
        length: Of the file.
    """
    size = int.from_bytes(head[:_HEADER], "little")
    return head[_HEADER : _HEADER + 1] == b"{" and size < length


def is_pytorch(head: bytes, length: int) -> bool:
    """Whether a file is one of PyTorch by its first bytes, see `is_safetensors`."""
    return head.startswith(_PYTORCH) and not is_safetensors(head, length)


def _is_text(head: bytes) -> bool:
    """Whether all bytes are printable, as those of PyTorch's pickles never are."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # Multi-byte characters may be cut at the end of what was read.
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n" for character in text)
