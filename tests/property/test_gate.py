"""Properties of the gate: nothing is lost, cuts and crashes change nothing, rollups are right."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.blocks import Outputs
from schemas.rollup import bucket_of
from tests.messages import NOW_MS, PERSON, Bench, Message, delivered, plain_word

HOUR_MS = 3_600_000


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Good, repeated, late, broken and mislabelled messages of some people."""
    number = draw(st.integers(1, 25))
    back_ms = draw(st.sampled_from([0, 1, 60_000, HOUR_MS, 30 * HOUR_MS]))
    classes = draw(st.sampled_from(["PUBLIC", "GDPR,PII", "PII", "PSEUDO", "SECRET", "COSMIC"]))
    message = delivered(
        number,
        at_ms=NOW_MS - back_ms,
        dataclassification=classes,
        subject=draw(st.sampled_from([PERSON, "usr_0000000000000000"])),
    )
    return draw(
        st.sampled_from([message] * 5 + [message._replace(value=b"{"), plain_word(message)])
    )


streams = st.lists(messages(), min_size=1, max_size=40)
cuts = st.lists(st.integers(1, 8), min_size=40, max_size=40)


def cut(stream: list[Message], sizes: list[int]) -> list[list[Message]]:
    blocks, rest = [], stream
    for size in sizes:
        if rest:
            blocks.append(rest[:size])
            rest = rest[size:]
    return blocks


def final_rows(outputs: list[Outputs]) -> dict[Any, Any]:
    """What the tables hold in the end: by key, the row with the greatest version.

    Floors are left out: they are told with a snapshot, so they differ with its place.
    """
    keys = {
        "facts": ("source", "event_id"),
        "quarantine": ("topic", "part", "off"),
        "fates": ("topic", "part", "run", "code", "source"),
        "rollup_1m_lanes": ("w", "event_type", "campaign", "channel", "class", "currency", "arm"),
    }
    found: dict[Any, Any] = {}
    for output in outputs:
        for rows in output.rows:
            if rows.table == "rollup_floors":
                continue
            columns = {
                name: values.tolist() if hasattr(values, "tolist") else values
                for name, values in rows.columns.items()
            }
            for at in range(rows.size):
                row = {name: values[at] for name, values in columns.items()}
                key = (rows.table, *(row[name] for name in keys[rows.table]))
                if key not in found or row["ver"] >= found[key]["ver"]:
                    found[key] = row
    return found


def routes(outputs: list[Outputs]) -> Counter[tuple[str, int]]:
    return Counter((r.topic, r.origin.offset) for output in outputs for r in output.records)


@given(streams, cuts)
@settings(max_examples=60, deadline=None)
def test_doors_add_up_and_cutting_the_stream_changes_nothing(
    stream: list[Message], sizes: list[int]
) -> None:
    whole = [Bench().pass_(*stream)]
    bench = Bench()
    parts = [bench.pass_(*block) for block in cut(stream, sizes)]

    assert len(stream) == sum(sum(output.counts.values()) for output in parts)
    assert routes(whole) == routes(parts)
    assert final_rows(whole) == final_rows(parts)


@given(streams, cuts, st.data())
@settings(max_examples=60, deadline=None)
def test_a_crash_and_a_replay_from_any_snapshot_change_nothing(
    stream: list[Message], sizes: list[int], data: st.DataObject
) -> None:
    blocks = cut(stream, sizes)
    bench = Bench()
    steady = [bench.pass_(*block) for block in blocks]
    at = data.draw(st.integers(0, len(blocks)))
    crash = data.draw(st.integers(at, len(blocks)))

    first = Bench()
    outputs = [first.pass_(*block) for block in blocks[:at]]
    state, places = first.gate.dump(), dict(first._next)
    outputs += [first.pass_(*block) for block in blocks[at:crash]]
    again = Bench()
    again.gate.load(state)
    again._next = places
    outputs += [again.pass_(*block) for block in blocks[at:]]

    assert final_rows(steady) == final_rows(outputs)
    assert routes(steady).keys() == routes(outputs).keys()


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(-5, 10**7)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_rollups_equal_a_plain_count(events: list[tuple[int, int]]) -> None:
    bench = Bench()
    stream = [
        delivered(n, at_ms=NOW_MS - minute * 60_000)._replace(
            recorded_ms=NOW_MS - minute * 60_000 + latency
        )
        for n, (minute, latency) in enumerate(events)
    ]
    rows = final_rows([bench.pass_(*stream[:20]), *(bench.pass_(one) for one in stream[20:])])

    counted: dict[int, list[int]] = {}
    for minute, latency in events:
        counted.setdefault(NOW_MS // 60_000 - minute, []).append(latency)
    found = {row["w"] // 60_000: row for key, row in rows.items() if key[0] == "rollup_1m_lanes"}
    assert {minute: len(spans) for minute, spans in counted.items()} == {
        minute: row["n"] for minute, row in found.items()
    }
    for minute, spans in counted.items():
        histogram = [0] * 32
        for span in spans:
            histogram[bucket_of(span)] += 1
        assert histogram == found[minute]["latency_hist"]
        assert len(spans) == found[minute]["ver"]
