"""Everything that travels between the steps survives the way from one process to another."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pytest

from flows.steps.publish import QUARANTINE_TOPIC
from schemas.blocks import CheckedBlock, Outputs, OutRecord, RawBlock, Rows
from schemas.events import COLUMNS, EVENT_TYPES
from schemas.ticket import Label, Ticket
from tests.messages import (
    Bench,
    Message,
    block,
    delivered,
    full,
    payment,
    profile,
    soiled_all_over,
    with_body,
    with_header,
)

ROOT: Final = Path(__file__).parents[3]
EXAMPLES: Final = sorted((ROOT / "schemas" / "examples").glob("*/*.json"))
THERE_AND_BACK: Final = (
    "import pickle, sys; item = pickle.load(sys.stdin.buffer);"
    "sys.stdout.buffer.write(pickle.dumps(item))"
)


def cross(item: Any) -> Any:
    """Into a process that has imported nothing of ours, and back."""
    ran = subprocess.run(
        [sys.executable, "-c", THERE_AND_BACK],
        input=pickle.dumps(item),
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()[-2_000:]
    return pickle.loads(ran.stdout)


def plain(item: Any) -> Any:
    """The item with its types' names, all the way down, so that nothing is equal by chance."""
    if isinstance(item, msgspec.Struct):
        fields = {name: plain(getattr(item, name)) for name in item.__struct_fields__}
        return [type(item).__name__, fields]
    if isinstance(item, np.ndarray):
        return [item.dtype.str, item.tolist()]
    if isinstance(item, dict):
        return {key: plain(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [type(item).__name__, [plain(part) for part in item]]
    return [type(item).__name__, item]


def opened(outputs: Outputs) -> list[OutRecord]:
    """The records that are not sealed; a seal is another one each time."""
    return [record for record in outputs.records if record.topic != QUARANTINE_TOPIC]


def some_messages() -> list[Message]:
    """Some of every fate: accepted, refused with and without a ticket, with odd headers."""
    return [
        delivered(1),
        full(2),
        soiled_all_over(3),
        with_header(delivered(4), "ce_time", None),
        with_header(delivered(5), "x-note", b"\xff\x00"),
        with_body(delivered(6), channel=7),
        delivered(7)._replace(headers=[]),
        delivered(8)._replace(value=None),
        delivered(9)._replace(key=None),
        delivered(1),
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_body_of_every_event_type_survives(path: Path) -> None:
    event = json.loads(path.read_text())
    body = EVENT_TYPES[event["type"]].decode(json.dumps(event["data"]).encode())

    found = pickle.loads(pickle.dumps(body))

    assert body == found
    assert type(body) is type(found)
    assert all(getattr(body, name) == getattr(found, name) for name in COLUMNS)


def test_every_event_type_has_an_example_here() -> None:
    assert set(EVENT_TYPES) == {json.loads(path.read_text())["type"] for path in EXAMPLES}


def test_raw_block_survives() -> None:
    raw: RawBlock = block(some_messages())
    raw.quiet, raw.unread = (("ntf.delivery.v1", 3),), True

    assert plain(raw) == plain(cross(raw))


@pytest.mark.parametrize("messages", [some_messages(), [profile(1)], [payment(1)]])
def test_checked_block_survives_and_leads_to_the_same_outputs(messages: list[Message]) -> None:
    checked: CheckedBlock = Bench().check(*messages)

    found = cross(checked)

    assert plain(checked) == plain(found)
    here, there = Bench().gate.pass_block(checked), Bench().gate.pass_block(found)
    assert here.counts == there.counts
    assert plain(here.rows) == plain(there.rows)
    assert [record.origin for record in here.records] == [record.origin for record in there.records]
    assert plain(opened(here)) == plain(opened(there))


def test_records_and_rows_and_counts_survive() -> None:
    outputs = Bench().pass_(*some_messages())

    found = cross(outputs)

    assert {"facts", "quarantine", "rollup_1m_lanes", "fates"} <= {
        rows.table for rows in found.rows
    }
    assert all(isinstance(rows, Rows) for rows in found.rows)
    assert plain(outputs) == plain(found)


def test_label_is_interned_where_it_arrives() -> None:
    bench = Bench()
    labels: list[Label] = []
    for number in (1, 2):
        [ticket] = pickle.loads(pickle.dumps(bench.check(delivered(number)).tickets))
        assert isinstance(ticket, Ticket)
        labels.append(ticket.label)

    assert labels[0] is labels[1]
