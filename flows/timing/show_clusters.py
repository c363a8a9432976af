"""`airside timing clusters`: the rhythms of the day by which people differ, for those who look."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import orjson
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.table import Table

from connectors.clickhouse.client import connect
from connectors.clickhouse.reader import read_rows
from flows.ingest import read_policy
from flows.model.shapes import HOURS, Floats
from flows.query.ask import least_people
from flows.settings import read_settings
from flows.timing.calendar import DAY_MS
from schemas.ticket import format_time

SQL: Final = """SELECT lane, cluster, toUnixTimestamp64Milli(at), learned, people, sends, responses,
    hours
FROM rhythm_clusters_of_groups(k={k:UInt64}) ORDER BY lane, cluster"""

_PEAK: Final = 0.8  # as in the view: hours within a fifth of the highest are its peak
_ROUNDS_MAX: Final = 20
_BARS: Final = "▁▂▃▄▅▆▇█"
_CLOCK: Final = "0     6     12    18    "
_EMPTY: Final = (
    "no clusters: a lane tells of them after 200 rhythms of people with five activities or more,"
    " and of none that is about fewer people than the policy lets be seen"
)


class Shown(msgspec.Struct, frozen=True):
    """One cluster of a lane, or of several lanes put together.

    Units: `at_ms` since 1970, the oldest of its lanes. `hours` are 24 shares of activity by local
    hour. `apart` is the share of activity, 0 to 1, that would have to move to other hours to make
    the lanes' own centroids this one, on average over people.
    """

    lanes: tuple[int, ...]
    at_ms: int
    learned: int
    people: int
    sends: int
    responses: int
    hours: tuple[float, ...]
    apart: float = 0.0

    @property
    def peak_hours(self) -> list[int]:
        """The hours within a fifth of the highest."""
        least = _PEAK * max(self.hours)
        return [hour for hour, share in enumerate(self.hours) if share >= least]

    @property
    def response_rate(self) -> float | None:
        """Responses for each send; none before anything was sent."""
        return self.responses / self.sends if self.sends else None


def show_clusters(options: Namespace) -> int:
    """Print the newest clusters."""
    settings = read_settings()
    k = least_people(options.role, read_policy(settings))
    client = connect(settings.clickhouse_address)
    try:
        found = read_clusters(client, k=k)
    finally:
        client.close()
    shown = found if options.by_lane else put_together(of_living_lanes(found))
    if options.json:
        sys.stdout.buffer.write(to_json(shown) + b"\n")
        return 0
    console = Console(highlight=False, soft_wrap=True)
    if not shown:
        console.print(_EMPTY, markup=False)
        return 0
    console.print(to_table(shown, by_lane=options.by_lane))
    console.print(caption(shown), markup=False)
    return 0


def read_clusters(client: Client, *, k: int) -> list[Shown]:
    """The newest clusters of each lane that are of `k` people or more.

    Errors: as `connectors.clickhouse.reader.read_rows`.
    """
    lines = read_rows(client, SQL, {"k": k}, name="rhythm_clusters")
    return [
        Shown((lane,), at_ms, learned, people, sends, responses, tuple(hours))
        for lane, _, at_ms, learned, people, sends, responses, hours in lines
    ]


def of_living_lanes(found: Sequence[Shown]) -> list[Shown]:
    """Without lanes that have told nothing for a day: others may have their people now."""
    newest_ms = max((one.at_ms for one in found), default=0)
    return [one for one in found if newest_ms - one.at_ms <= DAY_MS]


def put_together(found: Sequence[Shown]) -> list[Shown]:
    """Clusters of several lanes as one set, in the order of their peaks.

    The lane that tells most clusters, and of those has most people, is where it begins: clusters of
    each lane go to its nearest, and each then becomes the mean of what came to it, by people, until
    nothing moves.
    """
    if not found:
        return []
    count = Counter(one.lanes for one in found)
    lane = max(count, key=lambda lane: (count[lane], _people_of(found, lane), lane))
    days = np.array([one.hours for one in found])
    weight = np.array([one.people for one in found], np.float64)
    centres = days[[one.lanes == lane for one in found]]
    nearest = _nearest(days, centres)
    for _ in range(_ROUNDS_MAX):
        centres = np.array(
            [
                np.average(days[nearest == number], axis=0, weights=weight[nearest == number])
                for number in np.unique(nearest)
            ]
        )
        before, nearest = nearest, _nearest(days, centres)
        if np.array_equal(before, nearest):
            break
    places = [np.flatnonzero(nearest == number).tolist() for number in np.unique(nearest)]
    groups = [_as_one([found[place] for place in each]) for each in places]
    return sorted(groups, key=lambda one: int(np.argmax(one.hours)))


def _people_of(found: Sequence[Shown], lanes: tuple[int, ...]) -> int:
    return sum(one.people for one in found if one.lanes == lanes)


def _nearest(days: Floats, centres: Floats) -> Any:
    return ((days[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)


def _as_one(parts: Sequence[Shown]) -> Shown:
    weight = np.array([one.people for one in parts], np.float64)
    days = np.array([one.hours for one in parts])
    mean = np.average(days, axis=0, weights=weight)
    apart = np.average(np.abs(days - mean).sum(axis=1) / 2, weights=weight)
    return Shown(
        lanes=tuple(sorted({lane for one in parts for lane in one.lanes})),
        at_ms=min(one.at_ms for one in parts),
        learned=sum({one.lanes: one.learned for one in parts}.values()),
        people=sum(one.people for one in parts),
        sends=sum(one.sends for one in parts),
        responses=sum(one.responses for one in parts),
        hours=tuple(mean.tolist()),
        apart=float(apart),
    )


def to_table(shown: Sequence[Shown], *, by_lane: bool) -> Table:
    """One line a cluster, and its day as 24 bars from midnight, the highest one full."""
    table = Table(box=None)
    for name in ("lane",) if by_lane else ():
        table.add_column(name, justify="right")
    for name in ("cluster", "people", "share", "rate"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(_CLOCK, no_wrap=True)
    table.add_column("peak hours")
    for name in () if by_lane else ("apart",):
        table.add_column(name, justify="right", no_wrap=True)
    for number, one in _numbered(shown, by_lane=by_lane):
        rate = one.response_rate
        table.add_row(
            *([str(one.lanes[0])] if by_lane else []),
            str(number),
            f"{one.people:,}",
            f"{100 * _share(one, shown, by_lane=by_lane):.1f} %",
            "-" if rate is None else f"{100 * rate:.1f} %",
            bars(one.hours),
            spans(one.peak_hours),
            *([] if by_lane else [f"{one.apart:.2f}"]),
        )
    return table


def _numbered(shown: Sequence[Shown], *, by_lane: bool) -> list[tuple[int, Shown]]:
    numbers: dict[tuple[int, ...], int] = {}
    lines = []
    for one in shown:
        key = one.lanes if by_lane else ()
        numbers[key] = numbers.get(key, 0) + 1
        lines.append((numbers[key], one))
    return lines


def _share(one: Shown, shown: Sequence[Shown], *, by_lane: bool) -> float:
    return one.people / (
        _people_of(shown, one.lanes) if by_lane else sum(other.people for other in shown)
    )


def caption(shown: Sequence[Shown]) -> str:
    """How old the figures are, and of how many people and lanes."""
    lanes = {lane for one in shown for lane in one.lanes}
    people, sends = sum(one.people for one in shown), sum(one.sends for one in shown)
    among = f"{len(lanes)} {'lane' if len(lanes) == 1 else 'lanes'}"
    oldest = format_time(min(one.at_ms for one in shown)).decode()
    return (
        f"{people:,} people of {among}, with {sends:,} sends, by their own clocks;"
        f" as of {oldest} or later"
    )


def spans(hours: Sequence[int]) -> str:
    """Hours as spans, around midnight too.

    >>> spans([7, 8, 9, 18]), spans([0, 1, 22, 23]), spans(list(range(24)))
    ('7-9, 18', '22-1', 'all day')
    """
    if len(hours) == HOURS:
        return "all day"
    among = set(hours)
    firsts = [hour for hour in hours if (hour - 1) % HOURS not in among]
    told = []
    for first in firsts:
        last = first
        while (last + 1) % HOURS in among:
            last = (last + 1) % HOURS
        told.append(str(first) if first == last else f"{first}-{last}")
    return ", ".join(told)


def bars(hours: Sequence[float]) -> str:
    """A day as 24 bars, the highest one full.

    >>> bars([0.0] * 23 + [1.0])
    '▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁█'
    """
    top = max(hours)
    return "".join(_BARS[min(int(share / top * len(_BARS)), len(_BARS) - 1)] for share in hours)


def to_json(shown: Sequence[Shown]) -> bytes:
    """All figures, as they are; shares of people are left to the reader."""
    return orjson.dumps(
        [
            {
                "lanes": list(one.lanes),
                "at": format_time(one.at_ms).decode(),
                "learned": one.learned,
                "people": one.people,
                "sends": one.sends,
                "responses": one.responses,
                "response_rate": one.response_rate,
                "peak_hours": one.peak_hours,
                "hours": list(one.hours),
                "apart": one.apart,
            }
            for one in shown
        ]
    )
