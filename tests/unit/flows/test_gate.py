"""The gate: each message gets its own door, whatever it is sent among."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import orjson
import pytest

from flows.steps.gate import PROFILE_TYPE
from flows.steps.publish import LATE_TOPIC, QUARANTINE_TOPIC, SEALED_BYTES_MAX
from flows.steps.seal import Sealer
from schemas.blocks import Outputs, Rows
from schemas.codes import Door
from schemas.errors import ConfigError, PermanentError
from schemas.ticket import Header, format_time
from schemas.ticket_reader import UNREADABLE
from tests.messages import KEY, NOW_MS, Bench, Message, delivered, profile

HOUR_MS = 3_600_000
CANARY = "canary7f3a91"
OPEN, RESTRICTED, PCI = (f"ntf.routed.{word}.v1" for word in ("open", "restricted", "pci"))


def rows_of(outputs: Outputs, table: str) -> Rows:
    [rows] = [rows for rows in outputs.rows if rows.table == table]
    return rows


def with_body(message: Message, **changes: Any) -> Message:
    body = orjson.loads(message.value or b"")
    return message._replace(value=orjson.dumps({**body, **changes}))


def plain(number: int, classes: str, purpose: str = "transactional_notice") -> Message:
    return delivered(number, dataclassification=classes, datapurpose=purpose)


def test_each_message_of_a_mixed_block_goes_its_own_way() -> None:
    outputs = Bench().pass_(
        plain(1, "PUBLIC"),
        plain(2, "GDPR,PII"),
        plain(3, "PCI", "payment"),
        plain(4, "PII")._replace(value=b"{"),
        plain(5, "INTERNAL"),
    )

    topics = [(record.topic, record.origin.offset) for record in outputs.records]
    assert [(OPEN, 0), (RESTRICTED, 1), (PCI, 2), (OPEN, 4), (QUARANTINE_TOPIC, 3)] == topics


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("T103", delivered()._replace(value=b'"' + b"x" * 1_100_000 + b'"')),
        ("T105", delivered(at_ms=NOW_MS + 600_000)),
        ("T107", delivered()._replace(key=None)),
        ("T107", delivered()._replace(key=b"usr_0000000000000000")),
        ("T203", plain(1, "PCI", "marketing")),
        ("T203", plain(1, "SECRET", "security")),
        ("T301", delivered(type="ntf.delivery.teleported.v1")),
        ("T301", delivered(type="ntf.request.created.v1")),
        ("T302", with_body(delivered(), channel="pigeon")),
        ("T302", with_body(delivered(), journey_id="jrn-another-one")),
        ("T302", with_body(delivered(), subject="usr_0000000000000000")),
        ("T303", delivered()._replace(value=None)),
        ("T303", delivered()._replace(value=b"")),
        ("T303", delivered()._replace(value=b"\xff\xfe")),
        ("T303", delivered()._replace(value=(delivered().value or b"")[:-1] + b',"x":"\xff"}')),
        ("T303", delivered()._replace(value=b"[" * 100_000)),
        ("T404", delivered(datapurpose="marketing")),
        ("T405", delivered(expirytime=format_time(NOW_MS - 1).decode())),
        ("T502", delivered(datahops="ro.a1.0")),
        ("T502", delivered(datahops="ro.a1.0>in.xrp.5")),
        ("T502", delivered(datahops="in.rp.0>ro.a1.5>en.xrp.9")),
        ("T502", delivered(datahops="rp.x.0>ro.a1.5")),
        ("T606", profile()._replace(value=None)),
        ("", delivered(datahops="ro.a1.0>rp.x.1")),
        ("", delivered(datahops="ro.a1.0>rp.x.1>en.b1.2")),
        ("", delivered(datahops="ro.a10.0")),
        ("", delivered()),
    ],
)
def test_what_is_wrong_with_a_message_has_its_code(code: str, message: Message) -> None:
    assert code == Bench().code_of(message)


def test_an_event_beyond_late_corrections_leaves_by_the_late_door_of_its_partition() -> None:
    bench = Bench()
    bench.pass_(delivered(1))
    late = delivered(2, at_ms=NOW_MS - 25 * HOUR_MS)

    outputs = bench.pass_(late)

    assert {("late", "T601")} == {key for key, count in outputs.counts.items() if count}
    assert [LATE_TOPIC] == [record.topic for record in outputs.records]


def test_a_late_event_within_the_bound_corrects_its_minute() -> None:
    bench = Bench()
    early = NOW_MS - 20 * HOUR_MS
    bench.pass_(delivered(1, at_ms=early), delivered(2))

    rows = rows_of(bench.pass_(delivered(3, at_ms=early)), "rollup_1m_lanes")

    assert [2] == rows.columns["n"].tolist()
    assert [2] == rows.columns["ver"].tolist()
    assert [early // 60_000 * 60_000] == rows.columns["w"].tolist()


def test_a_cell_that_falls_out_of_reach_in_its_own_block_still_counts_what_it_held() -> None:
    """The block moves event time so far that it could free the cell that it just changed."""
    bench = Bench()
    old = NOW_MS - 100 * HOUR_MS
    bench.pass_(delivered(1, at_ms=old))

    outputs = bench.pass_(delivered(2, at_ms=old + 1), delivered(3))

    rows = rows_of(outputs, "rollup_1m_lanes")
    assert (
        2
        == dict(zip(rows.columns["w"].tolist(), rows.columns["n"].tolist(), strict=True))[
            old // 60_000 * 60_000
        ]
    )


def test_cells_and_memory_are_freed_when_every_partition_moved_on() -> None:
    bench = Bench()
    bench.pass_(delivered(1, at_ms=NOW_MS - 100 * HOUR_MS))
    bench.pass_(delivered(2, at_ms=NOW_MS - 99 * HOUR_MS), partition=4)
    bench.pass_(delivered(3))
    assert 3 == len(bench.gate.rollup)

    bench.pass_(delivered(4), partition=4)

    assert 1 == len(bench.gate.rollup)
    assert 2 == len(bench.gate.memory)


def test_a_repeat_is_dropped_and_another_content_is_refused() -> None:
    bench = Bench()
    assert "" == bench.code_of(delivered(1))
    assert "T602" == bench.code_of(delivered(1))
    assert "T603" == bench.code_of(with_body(delivered(1), campaign="autumn"))
    assert "T603" == bench.code_of(delivered(1, at_ms=NOW_MS - 1))
    assert "" == bench.code_of(delivered(1, source="/sender/mailreef"))


def test_a_slow_partition_keeps_its_memory_while_another_runs_ahead() -> None:
    bench = Bench()
    slow = NOW_MS - 10 * HOUR_MS
    bench.pass_(delivered(1, at_ms=slow), partition=0)
    bench.pass_(delivered(2), partition=4)

    outputs = bench.pass_(delivered(1, at_ms=slow), partition=0)

    assert 1 == outputs.counts[Door.DROPPED, "T602"]


def test_memory_has_a_bound() -> None:
    bench = Bench(time={"duplicates_max": 1_000})
    for first in range(0, 30_000, 3_000):
        at_ms = NOW_MS - 20 * HOUR_MS + first * 1_000
        bench.pass_(*(delivered(first + n, at_ms=at_ms) for n in range(300)))

    assert len(bench.gate.memory) <= 1_300


def test_a_purpose_that_its_cause_does_not_allow_is_refused() -> None:
    bench = Bench()
    bench.pass_(delivered(1))
    cause = f"evt-{1:012d}"

    assert "T206" == bench.code_of(delivered(2, causationid=cause, datapurpose="security"))
    assert "" == bench.code_of(delivered(3, causationid=cause, datapurpose="engagement_tracking"))
    assert "" == bench.code_of(delivered(4, causationid="evt-unknown-1", datapurpose="security"))


def test_consent_is_what_the_latest_profile_says() -> None:
    bench = Bench()
    wanted: dict[str, Any] = {"datapurpose": "marketing"}
    assert "T404" == bench.code_of(delivered(1, **wanted))
    bench.pass_(profile(1, consent=["marketing"]))
    assert "" == bench.code_of(delivered(2, **wanted))
    bench.pass_(profile(2))
    assert "T404" == bench.code_of(delivered(3, **wanted))
    bench.pass_(profile(3, consent=["marketing"]))
    bench.pass_(profile()._replace(value=None))
    assert "T404" == bench.code_of(delivered(4, **wanted))


def test_a_profile_adds_zone_and_local_hour_and_its_lack_a_warning() -> None:
    bench = Bench()
    known = rows_of(bench.pass_(profile()), "facts")
    assert [PROFILE_TYPE] == list(known.columns["event_type"])

    rows = rows_of(bench.pass_(delivered(1), delivered(2, subject="usr_0000000000000000")), "facts")

    assert ["Asia/Tokyo", ""] == list(rows.columns["zone"])
    # 2027-01-15 08:00 UTC, a Friday, is 17:00 in Tokyo.
    assert [4 * 24 + 17, 255] == list(rows.columns["local_hour"])
    assert [(), ("T604",)] == list(rows.columns["warnings"])


@pytest.mark.parametrize("classes", ["PUBLIC", "INTERNAL", "CONFIDENTIAL", "PSEUDO"])
def test_the_zone_of_a_person_is_in_no_row_that_is_open_to_all(classes: str) -> None:
    bench = Bench()
    bench.pass_(profile())

    rows = rows_of(
        bench.pass_(plain(1, classes), delivered(2, dataclassification=classes, subject="usr_0")),
        "facts",
    )

    assert ["", ""] == list(rows.columns["zone"])
    assert [255, 255] == list(rows.columns["local_hour"])
    # Nor does a missing warning tell that a profile is known.
    assert [(), ()] == list(rows.columns["warnings"])


def test_clocks_that_go_back_are_a_warning() -> None:
    rows = rows_of(Bench().pass_(delivered(datahops="in.c1.5>va.c1.4")), "facts")

    [warnings] = rows.columns["warnings"]
    assert "T504" in warnings


def test_profiles_that_are_read_again_load_the_table_and_nothing_else() -> None:
    first = Bench()
    first.pass_(profile(1, consent=["marketing"]))
    state = first.gate.dump()
    again = Bench()
    again.gate.load(state)

    outputs = again.pass_(profile(1, consent=["marketing"]))

    assert ([], [], 0) == (outputs.records, outputs.rows, sum(outputs.counts.values()))
    assert "" == again.code_of(delivered(1, datapurpose="marketing"))


def test_a_routed_record_is_the_message_with_a_stamped_ticket() -> None:
    message = delivered(1)
    message = message._replace(headers=[*message.headers, ("x-note", b"\xff"), ("x-null", None)])
    bench = Bench()
    bench.pass_(profile())

    [record] = bench.pass_(message).records

    headers = dict(record.headers)
    assert (message.value, message.key) == (record.value, record.key)
    assert b"ntf.delivery.v1/0/0/0" == headers["airside-origin"]
    assert b"ro.a1.0" == headers["ce_datahops"]
    assert b"1" == headers["ce_datapolicy"]
    assert b"Asia/Tokyo" == headers["ce_subjectzone"]
    assert (b"\xff", None) == (headers["x-note"], headers["x-null"])


def test_the_zone_of_a_person_is_on_no_open_record() -> None:
    bench = Bench()
    bench.pass_(profile())

    [record] = bench.pass_(plain(1, "INTERNAL")).records

    assert OPEN == record.topic
    assert "ce_subjectzone" not in dict(record.headers)


def test_a_refused_message_can_be_opened_with_the_key_and_only_at_its_place() -> None:
    message = delivered(1)._replace(value=b"{broken " + CANARY.encode())
    [record] = Bench().pass_(message).records
    notice = orjson.loads(record.value or b"")

    opened = orjson.loads(Sealer(KEY).open(notice["sealed"], about=notice["origin"]))

    assert message.value == base64.b64decode(opened["value"])
    with pytest.raises(PermanentError, match="another key, or changed bytes"):
        Sealer(KEY).open(notice["sealed"], about="ntf.delivery.v1/0/1/0")
    with pytest.raises(PermanentError, match="another key"):
        Sealer(base64.b64encode(bytes(32)).decode()).open(notice["sealed"], about=notice["origin"])


@pytest.mark.parametrize("classes", ["PCI", "SECRET", "PCI,COSMIC", "secret"])
def test_card_data_and_secrets_are_not_even_kept_sealed(classes: str) -> None:
    [record] = Bench().pass_(plain(1, classes, "marketing")).records

    assert orjson.loads(record.value or b"")["sealed"] is None


@pytest.mark.parametrize("more", [[], plain(1, "PUBLIC").headers])
def test_what_had_headers_that_could_not_be_read_is_not_even_kept_sealed(
    more: list[Header],
) -> None:
    """One name that is no UTF-8 hides all of them, and with them what class it was."""
    message = delivered(1)._replace(headers=[*more, (UNREADABLE, None)])

    [record] = Bench().pass_(message).records

    notice = orjson.loads(record.value or b"")
    assert ("T102", None) == (notice["code"], notice["sealed"])


def test_without_a_key_or_when_too_large_nothing_is_kept() -> None:
    huge = delivered(1)._replace(value=b"x" * SEALED_BYTES_MAX)
    for bench, message in (
        (Bench(quarantine_key=None), delivered(1)._replace(value=b"{")),
        (Bench(), huge),
    ):
        [record] = bench.pass_(message).records

        assert orjson.loads(record.value or b"")["sealed"] is None
        assert len(record.value or b"") < 1_000


def test_a_key_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="AIRSIDE_QUARANTINE_KEY"):
        Sealer("c2hvcnQ=")


def test_no_value_of_a_refused_message_shows_anywhere_in_clear() -> None:
    """A canary in every place a producer can put one; sealed text is the only copy."""
    bench = Bench()
    base = delivered(1)
    planted = [
        base._replace(value=b'{"journey_id":"%b"}' % CANARY.encode()),
        with_body(base, channel=CANARY),
        with_body(base, **{CANARY: [1], "channel": 7}),
        base._replace(key=CANARY.encode()),
        *(
            base._replace(
                headers=[(n, CANARY.encode() if n == name else v) for n, v in base.headers]
            )
            for name, _ in base.headers
            if name not in ("ce_id", "ce_source", "ce_type", "ce_correlationid", "ce_subject")
        ),
    ]
    for message in planted:
        outputs = bench.pass_(message)
        assert sum(outputs.counts.values()) == 1
        assert 0 == outputs.counts.get((Door.ROUTED, ""), 0)
        for record in outputs.records:
            assert CANARY not in repr(record)
        for rows in outputs.rows:
            assert CANARY not in repr(rows.columns)


def test_another_version_of_the_state_is_refused_in_words() -> None:
    state = msgspec.msgpack.decode(Bench().gate.dump())
    state["version"] = 99

    with pytest.raises(PermanentError, match="found state version 99"):
        Bench().gate.load(msgspec.msgpack.encode(state))


def test_lateness_is_held_against_the_newest_of_its_own_partition() -> None:
    bench = Bench()
    bench.pass_(delivered(2, at_ms=NOW_MS - 23 * HOUR_MS), partition=4)
    bench.pass_(delivered(1))
    edge = NOW_MS - 24 * HOUR_MS

    assert "" == bench.code_of(delivered(3, at_ms=edge))
    assert "T601" == bench.code_of(delivered(4, at_ms=edge - 1))
    assert 1 == bench.pass_(delivered(5, at_ms=edge - 1), partition=4).counts[Door.ROUTED, ""]


def test_a_cause_whose_purpose_has_left_the_policy_stops_nothing() -> None:
    bench = Bench()
    bench.pass_(delivered(1))
    state = msgspec.msgpack.decode(bench.gate.dump())
    state["purposes"] = ["retired" if n == "transactional_notice" else n for n in state["purposes"]]
    again = Bench()
    again.pass_(delivered(9))
    again.gate.load(msgspec.msgpack.encode(state))

    assert "" == again.code_of(delivered(2, causationid=f"evt-{1:012d}", datapurpose="security"))


@pytest.mark.parametrize("value", [b"{", delivered().value])
@pytest.mark.parametrize("recorded_ms", [300_000_000_000_000, 2**62])
def test_a_record_time_beyond_the_calendar_stops_nothing(
    value: bytes | None, recorded_ms: int
) -> None:
    outputs = Bench().pass_(delivered()._replace(value=value, recorded_ms=recorded_ms))

    assert 1 == sum(outputs.counts.values())
