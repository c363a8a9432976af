"""How long a writer waits for a ClickHouse that is away, on a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.clickhouse.writer import TableWriter
from schemas.blocks import Rows
from schemas.errors import TransientError


class Away:
    """A ClickHouse that refuses so many inserts, and a clock that only waiting moves."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.now_s = 1_000.0
        self.written: list[str] = []

    def insert_arrow(self, name: str, _rows: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionRefusedError
        self.written.append(name)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def writer(self, **more: Any) -> TableWriter:
        client: Any = self
        return TableWriter(client, sleep=self.sleep, steady_s=lambda: self.now_s, **more)


def fates(run: int = 0) -> Rows:
    words = {"topic": "t.v1", "door": "routed", "code": "", "source": "/a"}
    numbers = {"part": 0, "run": run, "lane": 0, "n": 1, "ver": 1}
    return Rows("fates", 1, {name: [value] for name, value in {**words, **numbers}.items()})


def test_a_writer_that_is_told_to_stop_gives_up_soon() -> None:
    """Else SIGTERM in an outage has to wait for as long as the outage may last."""
    world = Away(refusals=1_000_000)
    writer = world.writer(retry_s_max=600.0, stop=lambda: world.now_s >= 1_100.0, stop_s_max=20.0)
    writer.add(fates())

    with pytest.raises(TransientError, match="nothing is lost"):
        writer.flush()
    assert 1_100.0 < world.now_s <= 1_130.0


def test_a_writer_that_is_told_to_stop_still_waits_for_a_short_outage() -> None:
    world = Away(refusals=3)
    writer = world.writer(retry_s_max=600.0, stop=lambda: True, stop_s_max=20.0)
    writer.add(fates())
    writer.flush()

    assert ["fates"] == world.written


def test_one_bound_holds_for_all_inserts_of_an_epoch_and_a_fresh_one_for_the_next() -> None:
    """An epoch with a bound for each table could outlast its transaction in Kafka."""
    world = Away(refusals=4)
    writer = world.writer(retry_s_max=10.0, rows_max=1)
    writer.add(fates(0))
    world.now_s += 9.0
    world.refusals = 4
    with pytest.raises(TransientError):
        writer.add(fates(1))

    again = Away(refusals=4)
    writer = again.writer(retry_s_max=10.0, rows_max=1)
    writer.add(fates(0))
    writer.flush()
    again.now_s += 9.0
    again.refusals = 4
    writer.add(fates(1))
    assert ["fates", "fates"] == again.written
