"""Write what job C found to ClickHouse, in Arrow's stream format, one insert for each table.

Runs in the peers' environments too: the standard library and pyarrow only.
"""

from __future__ import annotations

import urllib.parse
import urllib.request
from typing import Any, Final

import pyarrow as pa

DATABASE: Final = "airside_bench"
COLUMNS: Final = {
    "cells": ("minute Int64, campaign String, kind Int64, events Int64", "minute, campaign, kind"),
    "users": ("subject String, k0 Int64, k1 Int64, k2 Int64, k3 Int64, k4 Int64", "subject"),
    "arms": ("campaign String, channel String, good Int64, bad Int64", "campaign, channel"),
}
CREATE: Final = (
    f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic",
    *(
        f"CREATE TABLE IF NOT EXISTS {DATABASE}.{name} ({columns}) ENGINE = MergeTree "
        f"ORDER BY ({key})"
        for name, (columns, key) in COLUMNS.items()
    ),
)
# pyarrow looks for pandas at its first list, and imports it: an import, so it is before what is
# measured. Of 200,000 messages in job C it was a third of the CPU.
_READY: Final = pa.array([""])
EMPTY: Final = tuple(f"TRUNCATE TABLE {DATABASE}.{name}" for name in COLUMNS)


def ask(url: str, statement: str, body: bytes | None = None) -> str:
    """Run one statement; with a body, the statement goes into the address."""
    if body is None:
        request = urllib.request.Request(url, data=statement.encode())
    else:
        query = urllib.parse.urlencode({"query": statement})
        request = urllib.request.Request(f"{url}/?{query}", data=body)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text: str = answer.read().decode()
    return text


def insert(url: str, table: str, columns: dict[str, Any]) -> None:
    """Insert whole columns."""
    batch = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_table(batch)
    body = sink.getvalue().to_pybytes()
    ask(url, f"INSERT INTO {DATABASE}.{table} FORMAT ArrowStream", body)


def write_dicts(
    url: str,
    cells: dict[tuple[int, str, int], int],
    users: dict[str, list[int]],
    arms: dict[tuple[str, str], list[int]],
) -> None:
    """Write what systems hold in plain dicts."""
    minutes, campaigns, kinds = zip(*cells, strict=True)
    insert(
        url,
        "cells",
        {"minute": minutes, "campaign": campaigns, "kind": kinds, "events": list(cells.values())},
    )
    counters = zip(*users.values(), strict=True)
    insert(
        url,
        "users",
        {"subject": list(users), **{f"k{n}": column for n, column in enumerate(counters)}},
    )
    campaigns, channels = zip(*arms, strict=True)
    good, bad = zip(*arms.values(), strict=True)
    insert(url, "arms", {"campaign": campaigns, "channel": channels, "good": good, "bad": bad})


def read_back(url: str) -> dict[str, int]:
    """What stands in the tables, in the words of the expected counts."""
    found = ask(
        url,
        "SELECT * FROM (SELECT count(), sum(events), sum(events * events) FROM airside_bench.cells)"
        " AS a, (SELECT count(), sum(k0*k0 + 2*k1*k1 + 3*k2*k2 + 4*k3*k3 + 5*k4*k4)"
        " FROM airside_bench.users) AS b, (SELECT count(), sum(good * good + 3 * bad * bad)"
        " FROM airside_bench.arms) AS c FORMAT TSV",
    )
    names = ("cells", "cells_sum", "cells_squares", "users", "users_squares")
    return dict(zip((*names, "arms", "arms_squares"), map(int, found.split()), strict=True))
