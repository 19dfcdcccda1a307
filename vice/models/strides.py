"""How many steps of a stride cover a length."""

from __future__ import annotations


def steps(length: int, stride: int) -> int:
    """``ceil(length / stride)``, in a form that graphs of other programs compute alike.

    ONNX divides whole numbers toward zero, Python toward minus infinity: the usual
    ``-(-length // stride)`` would be one less there.

    Args:
        length: Of an image's side, 0 or more; a symbol while a graph is traced.
        stride: 1 or more.

    Example:
        >>> from vice.models.strides import steps
        >>> [steps(length, 4) for length in (7, 8, 9)]
        [2, 2, 3]
    """
    return (length + stride - 1) // stride
