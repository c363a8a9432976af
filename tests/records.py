"""Records of the gate to publish by column, with every oddity that they can have."""

from __future__ import annotations

import msgspec

from schemas.records import Records, Stamped
from tests.messages import Bench, delivered, profile, with_header


def by_column(topic: str) -> Records:
    """Records of two tickets' labels, with a stranger among the headers, and one that is sealed."""
    bench = Bench()
    bench.pass_(profile(1))
    messages = [delivered(number) for number in range(1, 6)]
    messages[1] = with_header(messages[1], "x-note", b"\xff\x00")
    messages[2] = with_header(messages[2], "ce_source", b"/another")
    messages[3] = with_header(messages[3], "ce_time", None)
    found = bench.pass_(*messages).records
    assert isinstance(found, Records)
    assert isinstance(found.stamped, Stamped)
    assert found.singles
    topics = [topic] * len(found.stamped.topics)
    stamped = msgspec.structs.replace(found.stamped, topics=topics)
    return Records(stamped, [one._replace(topic=topic) for one in found.singles])
