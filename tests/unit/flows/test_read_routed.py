"""Routed blocks as followers read them."""

from __future__ import annotations

from flows.ingest import read_policy
from flows.steps.read_routed import RoutedReader
from schemas.blocks import CONTROL_HEADER, RawBlock
from schemas.ticket import Header
from schemas.ticket_reader import TicketReader
from tests.unit.flows.memory_run import make_settings


def block(*headers: list[Header]) -> RawBlock:
    count = len(headers)
    return RawBlock(
        lane=0,
        topic="ntf.routed.open.v1",
        received_ms=1,
        partitions=[0] * count,
        offsets=list(range(count)),
        timestamps=[1] * count,
        keys=[b"k"] * count,
        headers=list(headers),
        values=[b""] * count,
    )


def test_a_record_that_only_ended_a_transaction_is_not_counted_as_left_out() -> None:
    reader = RoutedReader(TicketReader(read_policy(make_settings())))

    accepted, left_out = reader.read(block([(CONTROL_HEADER, b"COMMIT")], [("other", b"COMMIT")]))

    assert accepted is None
    assert [1] == [*left_out.values()]
