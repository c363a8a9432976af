"""What is read and written by column is what is read and written one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.steps.deduplicate import Memory, Sight
from flows.steps.enrich import hour_of_week, hours_of_week
from schemas import few, header_runs
from schemas.columns import are_ids, are_names, are_traces, format_times, parse_times, strangers
from schemas.fates import Refusal
from schemas.hops import base36, base36_all
from schemas.rollup import bucket_of, buckets_of
from schemas.ticket import Header, format_time, parse_time
from schemas.ticket_reader import _ID, _NAME, _TRACEPARENT, TicketReader
from schemas.tickets import NO_TIME
from tests.messages import FULL, NOW_MS, full, policy, ticket_headers

TRACE = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
NAMES = tuple(name for name, _ in full().headers)
ODD: tuple[bytes | None, ...] = (
    *(None, b"", b"x", b"\xff", b"a\nb", b"a" * 65, b"a" * 1_100, b"1", b"SECRET"),
    *(b"2026-01-05T10:00:00+02:00", b"2026-02-30T10:00:00.000Z", b"in.c1.0>in.c1.0"),
)


@st.composite
def headers_of_one(draw: Any) -> list[Header] | None:
    """A right ticket, mostly; else one with a header changed, gone, twice or out of its place."""
    number = draw(st.integers(1, 40))
    more: dict[str, str | None] = {}
    more |= {name: FULL[name] for name in draw(st.sets(st.sampled_from(sorted(FULL)), max_size=3))}
    found = ticket_headers(number, at_ms=NOW_MS - number, **more)
    if draw(st.booleans()):
        found.append(("traceparent", draw(st.sampled_from([TRACE, b"00-zz", TRACE.upper()]))))
    if draw(st.integers(0, 5)) == 0:
        found.append(("x-note", draw(st.sampled_from([b"", None, b"n" * 20, b"n" * 17_000]))))
    fault = draw(st.integers(0, 12))
    place = draw(st.integers(0, len(found) - 1))
    if fault == 0:
        found[place] = (found[place][0], draw(st.sampled_from(ODD)))
    elif fault == 1:
        del found[place]
    elif fault == 2:
        found.append(found[place])
    elif fault == 3:
        found.reverse()
    elif fault == 4:
        return [] if draw(st.booleans()) else None
    return found


@given(st.lists(headers_of_one(), max_size=30))
@settings(max_examples=40, deadline=None)
def test_a_block_reads_as_its_messages_do_one_by_one(headers: list[list[Header] | None]) -> None:
    reader = TicketReader(policy())
    tickets, refusals = reader.read_block(headers)

    assert len(headers) == len(tickets)
    for place, given_ in enumerate(headers):
        alone = reader.read(given_)
        assert alone == (refusals[place] if place in refusals else tickets[place])
        assert isinstance(alone, Refusal) == (place in refusals)


def test_many_layouts_in_one_block_are_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_runs, "LAYOUTS_MAX", 2)
    headers: list[list[Header] | None] = []
    for number in range(1, 9):
        names = ticket_headers(number)
        headers.append([*names[number:], *names[:number]])

    tickets, refusals = TicketReader(policy()).read_block(headers)

    assert few.MANY == 1
    assert {} == refusals
    assert [f"evt-{number:012d}" for number in range(1, 9)] == tickets.ids


moments = st.one_of(
    st.integers(0, 253_402_300_799_999).map(format_time),
    st.sampled_from([value for value in ODD if value is not None]),
    st.binary(min_size=24, max_size=24),
    st.from_regex(rb"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z"),
)


@given(st.lists(moments, min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_times_read_by_column_as_one_by_one(values: list[bytes]) -> None:
    alone = [parse_time(value) for value in values]

    assert [NO_TIME if at_ms is None else at_ms for at_ms in alone] == parse_times(values).tolist()
    for value, at_ms in zip(values, alone, strict=True):
        assert [NO_TIME if at_ms is None else at_ms] == parse_times([value]).tolist()


@given(st.lists(st.integers(0, 253_402_300_799_999), max_size=20))
@settings(max_examples=40, deadline=None)
def test_times_are_written_by_column_as_one_by_one(times: list[int]) -> None:
    assert [format_time(at_ms) for at_ms in times] == format_times(np.array(times, np.int64))


words = st.one_of(
    st.from_regex(r"\A[A-Za-z0-9_.:-]{1,66}\Z").map(str.encode),
    st.sampled_from([value for value in ODD if value is not None]),
    st.sampled_from([TRACE, TRACE.upper(), TRACE.replace(b"-0", b"--"), b"01" + TRACE[2:]]),
)


@given(st.lists(words, max_size=20))
@settings(max_examples=40, deadline=None)
def test_forms_are_told_by_column_as_one_by_one(values: list[bytes]) -> None:
    for fits, form in ((are_ids, _ID), (are_names, _NAME), (are_traces, _TRACEPARENT)):
        odd = [place for place, value in enumerate(values) if not form(value)]
        assert odd == (strangers(values, fits) if values else [])


@given(st.lists(st.integers(-5, 2**62), max_size=20))
@settings(max_examples=40, deadline=None)
def test_numbers_are_written_by_column_as_one_by_one(numbers: list[int]) -> None:
    assert [base36(number) for number in numbers] == base36_all(np.array(numbers, np.int64))


@given(st.lists(st.integers(-(2**50), 2**50), max_size=20))
@settings(max_examples=40, deadline=None)
def test_buckets_are_told_by_column_as_one_by_one(latencies: list[int]) -> None:
    assert [bucket_of(ms) for ms in latencies] == buckets_of(np.array(latencies, np.int64)).tolist()


zones = st.sampled_from(["", "Asia/Tokyo", "Europe/Berlin", "Asia/Kathmandu", "America/Denver"])


@given(st.lists(st.tuples(zones, st.integers(0, 4_102_444_800_000)), max_size=20))
@settings(max_examples=40, deadline=None)
def test_hours_are_told_by_column_as_one_by_one(moments: list[tuple[str, int]]) -> None:
    expected = [hour_of_week(zone, at_ms) if zone else 255 for zone, at_ms in moments]
    times = np.array([at_ms for _, at_ms in moments], np.int64)

    assert expected == hours_of_week([zone for zone, _ in moments], times, unknown=255).tolist()


sightings = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 10**7))


@given(st.lists(sightings, max_size=20, unique_by=lambda event: event[0]))
@settings(max_examples=40, deadline=None)
def test_new_events_are_remembered_together_as_one_by_one(events: list[tuple[int, int]]) -> None:
    single, joint = Memory(10**9, 10**6), Memory(10**9, 10**6)
    for event, at_ms in events:
        sight = single.see_key(event ^ 7, event=event, content=event ^ 1, purpose=3, now_ms=at_ms)
        assert sight is Sight.NEW
    joint.remember_all(
        keys=[event ^ 7 for event, _ in events],
        events=[event for event, _ in events],
        contents=[event ^ 1 for event, _ in events],
        purposes=[3] * len(events),
        at_ms=[at_ms for _, at_ms in events],
    )

    assert single.dump() == joint.dump()
