"""Tell bodies that are nested too deeply, by a limit of our own and not the interpreter's."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

NESTING_MAX: Final = 256
"""Levels of arrays and objects in one body, its own object among them."""

SHALLOW_BYTES_MAX: Final = 2 * NESTING_MAX
"""A level takes two bytes, so a body of usual size needs no look."""

# A string is left out to its end, or to the end of the text: brackets in it open nothing.
_STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in _STEPS)


def is_too_deep(body: bytes) -> bool:
    """Tell whether a JSON text has more than `NESTING_MAX` levels, on every interpreter the same.

    Shapes: only for bodies beyond `SHALLOW_BYTES_MAX`; what is no JSON may be called either.
    Errors: none, for any bytes.

    >>> is_too_deep(b"[" * 256 + b"]" * 256), is_too_deep(b"[" * 257 + b"]" * 257)
    (False, True)
    """
    if body.count(b"[") + body.count(b"{") <= NESTING_MAX:
        return False
    brackets = _STRINGS.sub(b"", body).translate(None, _OTHERS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > NESTING_MAX
