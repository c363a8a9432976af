"""Every published example would be accepted: producers copy them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.ingest import make_checker, read_policy
from flows.settings import read_settings
from schemas.blocks import RawBlock
from schemas.events import EVENT_TYPES
from schemas.ticket import Header
from schemas.ticket_reader import TicketReader

EXAMPLES = sorted((Path(__file__).parents[2] / "schemas" / "examples").glob("*/*.json"))
NOWHERE = {"kafka": {"bootstrap_servers": "-"}, "clickhouse": {"url": "-"}}
FAR_MS = 4_000_000_000_000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_example_passes_the_checks_and_has_a_destination(path: Path) -> None:
    event = json.loads(path.read_text())
    body = json.dumps(event.pop("data")).encode()
    headers: list[Header] = [("content-type", event.pop("datacontenttype").encode())]
    headers += [(f"ce_{name}", str(value).encode()) for name, value in event.items()]
    settings = read_settings(NOWHERE)
    policy = read_policy(settings)
    raw = RawBlock(
        lane=0,
        topic=EVENT_TYPES[event["type"]].topic,
        received_ms=FAR_MS,
        partitions=[0],
        offsets=[0],
        timestamps=[FAR_MS],
        keys=[event.get("subject", event["id"]).encode()],
        headers=[headers],
        values=[body],
    )

    block = make_checker(settings, policy).check(raw)

    assert {} == block.refusals
    ticket = TicketReader(policy).read(headers)
    assert "" == ticket.label.decision.code  # type: ignore[union-attr]
