"""What becomes of a message: it is routed, or it is refused for one stated reason."""

from __future__ import annotations

from typing import NamedTuple

from schemas.codes import CODES, Door


class Refusal(NamedTuple):
    """Why a message did not pass: a code, where it was wrong, and how, without quoting it.

    Shapes: `pointer` is RFC 6901, into the ticket (`/ce_id`) for T1xx, T2xx and T5xx codes and
    into the body for T3xx codes; empty means the whole.

    >>> Refusal("T104", "/ce_id", "expected 8 to 64 characters").door
    <Door.QUARANTINED: 'quarantined'>
    """

    code: str
    pointer: str
    reason: str

    @property
    def door(self) -> Door:
        """The door this refusal sends its message through."""
        return CODES[self.code].door
