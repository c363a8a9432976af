"""What reconciliation is told, and the tables it works on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from schemas.blocks import Rows

OPEN_S: Final = 600
"""A newer record may still be on its way to a row, also where a flow of its own writes that."""


class Store(Protocol):
    """Reads and writes tables; both return when ClickHouse answered, or raise."""

    def read(
        self, query: str, parameters: Mapping[str, Any], *, name: str
    ) -> list[tuple[Any, ...]]:
        """The rows of a query; `name` says in errors what they are."""

    def write(self, rows: Rows) -> None:
        """Write rows durably."""


class Order(msgspec.Struct, frozen=True):
    """What one run is to do.

    Units: seconds since 1970. `since_s`: cells with no newer record are left alone;
    `kept_since_s`: no fact of a later minute can have expired; `closed_until_s`: no lane writes
    a cell of an earlier minute any more.
    Shapes: `floors_s` by lane, the first minute that this lane may still write.
    """

    lanes: int
    now_s: int
    since_s: int
    kept_since_s: int
    floors_s: dict[int, int]
    closed_until_s: int
    repair: bool = False
    closed_only: bool = False
    any_loss: bool = False

    def is_closed(self, lane: int, minute_s: int, newest_s: int) -> bool:
        """Tell whether the lane's worker writes this cell no more, nor what is counted beside it.

        A late profile has its fact and its row at two moments: what was recorded a moment ago is
        not judged by one of them.
        """
        is_settled = abs(self.now_s - newest_s) >= OPEN_S
        return is_settled and minute_s < self.floors_s.get(lane, 0)
