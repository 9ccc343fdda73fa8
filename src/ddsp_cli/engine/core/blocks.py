"""Work on many frames in pieces of bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

#: Elements of the largest array of a piece: 8 MB in float32, so that a processor's cache holds most of it.
BLOCK_ELEMENTS = 2**21


def in_blocks(function: Callable[..., Any], arrays: tuple[Any, ...], elements_per_row: int) -> Any:
    """Applies a function row by row, some rows at a time, one piece after the other.

    Args:
      function: takes arrays [n, ...] and returns arrays [n, ...] (one, or a tuple); each row of a result depends on
        the same row of the arguments only.
      arrays: [N, ...] each.
      elements_per_row: size of the largest intermediate result that one row needs.

    Returns:
      What the function would return for all N rows.
    """
    block = max(1, BLOCK_ELEMENTS // elements_per_row)
    n_rows = ops.shape(arrays[0])[0]
    if isinstance(n_rows, int):
        if n_rows <= block:
            return function(*arrays)
        block = -(-n_rows // -(-n_rows // block))  # pieces of one size, as equal as can be
    missing = -n_rows % block
    folded = [_fold(array, missing, block) for array in arrays]
    results = ops.map(lambda piece: function(*piece), tuple(folded))
    if isinstance(results, (tuple, list)):
        return tuple(_unfold(result, n_rows) for result in results)
    return _unfold(results, n_rows)


def _fold(array: Any, missing: Any, block: int) -> Any:
    rest = tuple(array.shape[1:])
    if not (isinstance(missing, int) and missing == 0):
        array = ops.concatenate([array, ops.zeros((missing, *rest), array.dtype)], axis=0)
    return ops.reshape(array, (-1, block, *rest))


def _unfold(array: Any, n_rows: Any) -> Any:
    return ops.reshape(array, (-1, *array.shape[2:]))[:n_rows]
