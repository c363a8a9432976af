"""Properties of tickets: round trips, and that no bytes at all can make the reader raise."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.fates import Refusal
from schemas.hops import Hop, append_hop
from schemas.ticket import Header, Ticket, encode_ticket, format_time, parse_time
from schemas.ticket_reader import _CACHE_MAX, TicketReader
from tests.messages import policy, ticket_headers

READER = TicketReader(policy())
CANARY = "canary7f3a91"

names = st.one_of(st.sampled_from([name for name, _ in ticket_headers()]), st.text(max_size=20))
values = st.one_of(st.none(), st.binary(max_size=60), st.just(CANARY.encode()))
times = st.integers(min_value=0, max_value=7_000_000_000_000)
words = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789_-", min_size=8, max_size=40)
nodes = st.text("abcdefghij0123456789", min_size=1, max_size=16)


@given(st.lists(st.tuples(names, values), max_size=30))
@settings(max_examples=300)
def test_any_headers_give_a_ticket_or_a_refusal(headers: list[Header]) -> None:
    found = READER.read(headers)

    assert isinstance(found, Ticket | Refusal)
    if isinstance(found, Refusal):
        assert CANARY not in "".join(found)
    assert set(READER.glance(headers)) == {"id", "source", "type", "discard"}


@given(st.data())
@settings(max_examples=300)
def test_a_valid_ticket_with_one_header_changed_never_raises(data: st.DataObject) -> None:
    headers = ticket_headers()
    place = data.draw(st.integers(0, len(headers) - 1))
    headers[place] = (headers[place][0], data.draw(values))

    found = READER.read(headers)

    assert isinstance(found, Ticket | Refusal)
    if isinstance(found, Refusal):
        assert CANARY not in "".join(found)


@given(
    st.permutations(range(11)),
    words,
    times,
    times,
    st.lists(st.tuples(nodes, st.integers(0, 10**9)), max_size=6, unique_by=lambda hop: hop[0]),
    st.lists(st.tuples(st.sampled_from(["x-a", "x-b"]), values), max_size=3),
)
@settings(max_examples=200)
def test_reading_what_was_written_gives_the_same_ticket(  # noqa: PLR0917 - drawn parts
    order: list[int],
    event: str,
    at_ms: int,
    recorded_ms: int,
    gates: list[tuple[str, int]],
    rest: list[Header],
) -> None:
    hops = ""
    for node, delta_ms in gates:
        hops = append_hop(hops, Hop("va", node, delta_ms, "p"))
    more: dict[str, Any] = {"id": event, "recordedtime": format_time(recorded_ms).decode()}
    headers = ticket_headers(at_ms=at_ms, datahops=hops or None, **more)
    shuffled = [headers[place] for place in order if place < len(headers)]
    shuffled += [header for header in headers if header not in shuffled]
    ticket = READER.read([*shuffled, *rest])
    assert isinstance(ticket, Ticket)

    again = READER.read(encode_ticket(ticket))

    assert ticket == again


@given(times)
def test_times_survive_writing_and_reading(at_ms: int) -> None:
    assert at_ms == parse_time(format_time(at_ms))


@given(st.binary(max_size=40))
def test_any_bytes_are_a_time_or_none(text: bytes) -> None:
    found = parse_time(text)

    assert found is None or found >= 0


def test_caches_stay_bounded_under_hostile_headers() -> None:
    reader = TicketReader(policy())
    for number in range(_CACHE_MAX + 500):
        reader.read([*ticket_headers(source=f"/s/{number}"), (f"x{number}", b"")])

    assert len(reader._layouts) <= _CACHE_MAX
    assert len(reader._labels) <= _CACHE_MAX
