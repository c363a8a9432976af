"""The gate and time: what is late, what has expired, and what a profile's word counts."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.codes import Door
from schemas.ticket import format_time
from tests.messages import (
    HOUR_MS,
    NOW_MS,
    PERSON,
    Bench,
    Message,
    block,
    delivered,
    profile,
    rows_of,
    with_header,
)


def at_time(message: Message, at_ms: int) -> Message:
    return with_header(message, "ce_time", format_time(at_ms))


def test_a_profile_is_never_too_late_and_the_latest_offset_wins() -> None:
    """Somebody else's newer profile says nothing about how late a person's own one is."""
    bench = Bench()
    bench.pass_(at_time(profile(1, consent=["marketing"]), NOW_MS - 40 * HOUR_MS))
    bench.pass_(profile(2, subject="usr_aaaaaaaaaaaaaaaa"))

    outputs = bench.pass_(at_time(profile(3), NOW_MS - 9_000 * HOUR_MS))

    assert ["ntf.routed.restricted.v1"] == [record.topic for record in outputs.records]
    assert "T404" == bench.code_of(delivered(1, datapurpose="marketing"))


@pytest.mark.parametrize(
    ("classes", "purpose", "days"),
    [("GDPR,PII", "order_update", 90), ("PII", "ops_monitoring", 14), ("PCI", "payment", 7)],
)
def test_a_record_whose_retention_is_over_is_refused_and_not_lost(
    classes: str, purpose: str, days: int
) -> None:
    """Its row would be gone from the table as soon as it is written."""
    limit_ms = NOW_MS - days * 24 * HOUR_MS
    old = delivered(1, at_ms=limit_ms, dataclassification=classes, datapurpose=purpose)
    bench = Bench()

    assert "T405" == bench.code_of(old._replace(recorded_ms=limit_ms))
    outputs = bench.pass_(old._replace(recorded_ms=limit_ms + 1))
    assert 1 == outputs.counts[Door.ROUTED, ""]
    # The first day on which the row may go is still to come.
    [fact] = rows_of(outputs, "facts")
    assert fact["expires_at"] > NOW_MS // (24 * HOUR_MS)


def test_an_expired_record_is_neither_kept_nor_remembered() -> None:
    bench = Bench()
    old = NOW_MS - 400 * 24 * HOUR_MS

    outputs = bench.pass_(delivered(1, at_ms=old)._replace(recorded_ms=old))

    assert ([], {(Door.DROPPED, "T405"): 1}) == (outputs.records, +Counter(outputs.counts))
    assert None is bench.gate.watermark_ms
    assert "" == bench.code_of(delivered(1, at_ms=old))


def test_the_word_of_an_expired_profile_counts_as_long_as_its_topic_keeps_it() -> None:
    """A withdrawal that is not passed on must not leave an older grant in force."""
    bench = Bench()
    bench.pass_(profile(1, consent=["marketing"]))
    old = NOW_MS - 100 * 24 * HOUR_MS
    withdrawal = at_time(profile(2), old)._replace(recorded_ms=old)

    assert "T405" == bench.code_of(withdrawal)
    assert "T404" == bench.code_of(delivered(1, datapurpose="marketing"))
    again = Bench()
    again.gate.load(bench.gate.dump())
    again.pass_(profile(1, consent=["marketing"]))
    again.pass_(withdrawal)
    assert bench.gate.profiles.get(PERSON) == again.gate.profiles.get(PERSON) is not None


@pytest.mark.parametrize("name", ["ce_time", "ce_recordedtime"])
def test_the_profile_table_after_a_restart_is_the_one_before_it(name: str) -> None:
    """A profile from the future stays refused when its future has come."""
    base = profile(1, consent=["marketing"])._replace(recorded_ms=NOW_MS + HOUR_MS)
    early = with_header(base, name, format_time(NOW_MS + HOUR_MS))
    bench, again = Bench(), Bench()
    assert "T105" == bench.code_of(early)
    assert "T404" == bench.code_of(delivered(1, datapurpose="marketing"))

    again.gate.load(bench.gate.dump())
    raw = block([early])
    raw.received_ms = NOW_MS + 2 * HOUR_MS
    checked = again.checker.check(raw)
    again.gate.pass_block(checked)

    assert {} == checked.refusals
    assert None is again.gate.profiles.get(PERSON)
    assert bench.gate.dump() == again.gate.dump()
