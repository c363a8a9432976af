from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest

from flows.simulate.events import Message
from flows.simulate.plan import KINDS, Shares, counts_of
from flows.simulate.rhythm import ENERGY, ZONES, hour_of_day
from flows.simulate.truth import local_hour
from flows.simulate.world import World
from schemas.errors import ConfigError
from schemas.events import EVENT_TYPES
from tests.unit.flows.memory_run import END_MS

HOUR_MS = 3_600_000
NOTHING_WRONG = Shares(
    malformed=0, mislabelled=0, duplicate=0, late=0, too_late=0, out_of_order=0, odd=0
)


def bytes_of(world: World) -> list[tuple[object, ...]]:
    return [
        (message.topic, message.key, tuple(message.headers), message.value, message.timestamp_ms)
        for message in world
    ]


def faults_in(messages: Iterable[Message]) -> Counter[str]:
    return Counter(message.fault for message in messages)


def test_the_same_seed_gives_the_same_bytes_every_time() -> None:
    world = World(7, total=5_000, end_ms=END_MS)
    first = bytes_of(world)

    assert first == bytes_of(world)
    assert first == bytes_of(World(7, total=5_000, end_ms=END_MS))


def test_another_seed_gives_another_world() -> None:
    seven, eight = (World(seed, total=500, end_ms=END_MS) for seed in (7, 8))

    assert {message.key for message in seven.profiles()}.isdisjoint(
        message.key for message in eight.profiles()
    )
    assert bytes_of(seven) != bytes_of(eight)


@pytest.mark.parametrize("total", [1, 2, 10, 99, 1_000, 5_000, 7_777])
def test_a_world_has_exactly_as_many_messages_as_asked_for(total: int) -> None:
    world = World(1, total=total, end_ms=END_MS)
    numbers = [message.number for message in world]

    assert list(range(total)) == numbers


def test_profiles_come_before_everything_else() -> None:
    world = World(2, total=6_000, end_ms=END_MS)
    topics = [message.topic for message in world]
    profiles = topics[: world.profile_count]

    assert {"ntf.profiles.v1"} == set(profiles)
    assert "ntf.profiles.v1" not in topics[world.profile_count :]


def test_every_kind_of_fault_occurs_from_five_thousand_messages_on() -> None:
    for seed in range(5):
        found = set(faults_in(World(seed, total=5_000, end_ms=END_MS)))

        assert {kind for kinds in KINDS.values() for kind in kinds} | {"tombstone", ""} == found


def test_the_shares_of_faults_are_kept() -> None:
    shares = Shares(malformed=0.05, duplicate=0.04, late=0.03, too_late=0.02)
    found = faults_in(World(4, total=20_000, end_ms=END_MS, shares=shares))
    wanted = counts_of(shares, 20_000)
    families = {family: sum(found[kind] for kind in set(KINDS[family])) for family in KINDS}

    assert wanted == families
    assert (1_000, 800, 600, 400) == tuple(
        wanted[family] for family in ("malformed", "duplicate", "late", "too_late")
    )


def test_without_shares_only_tombstones_are_refused() -> None:
    world = World(4, total=6_000, end_ms=END_MS, shares=NOTHING_WRONG)

    assert {"", "tombstone"} == set(faults_in(world))


def test_more_faults_than_places_are_refused_before_the_start() -> None:
    world = World(4, total=1_000, end_ms=END_MS, shares=Shares(malformed=1.0))

    with pytest.raises(ConfigError, match="lower the shares"):
        next(world.stream())


def test_a_span_that_late_corrections_cannot_cover_is_refused() -> None:
    with pytest.raises(ConfigError, match="shorten the span"):
        World(4, total=10, end_ms=END_MS, span_s=86_400)


def test_event_time_ends_when_the_world_ends_and_no_record_is_stamped_after_it() -> None:
    world = World(9, total=8_000, end_ms=END_MS)
    times = [
        message.event.time_ms
        for message in world.stream()
        if message.event and message.fault != "late"
    ]
    stamps = [message.timestamp_ms for message in world]

    assert END_MS - 6 * HOUR_MS <= min(times)
    assert END_MS - HOUR_MS // 2 < max(times) <= END_MS
    assert max(stamps) <= END_MS + 1_000


def test_a_record_is_never_stamped_before_its_event() -> None:
    for message in World(9, total=8_000, end_ms=END_MS):
        assert message.event is None or message.timestamp_ms >= message.event.time_ms


def test_late_events_are_hours_late_and_those_too_late_more_than_a_day() -> None:
    world = World(9, total=8_000, end_ms=END_MS)
    late = [message for message in world if message.fault == "late" and message.event]
    behind = [message.timestamp_ms - message.event.time_ms for message in late if message.event]

    assert 80 == len(late)
    assert HOUR_MS <= min(behind)
    assert max(behind) < 24 * HOUR_MS + 30_000


def test_people_are_pseudonyms_in_zones_of_several_continents() -> None:
    world = World(3, total=6_000, end_ms=END_MS)
    zones = {person.zone for person in world.residents}
    wanted = {name for name, _ in ZONES}

    assert all(re.fullmatch("usr_[0-9a-f]{16}", person.subject) for person in world.residents)
    assert 15 < len(zones & wanted) == len(zones)
    assert 5 <= len({zone.partition("/")[0] for zone in zones})


@pytest.mark.parametrize("zone", [name for name, _ in ZONES])
def test_the_hour_of_the_day_is_the_one_on_the_wall(zone: str) -> None:
    for at_ms in range(END_MS, END_MS + 400 * 24 * HOUR_MS, 5 * HOUR_MS + 900_001):
        assert local_hour(zone, at_ms) % 24 == hour_of_day(zone, at_ms)


def test_people_answer_more_at_the_hours_of_their_rhythm() -> None:
    """What later learning has to find: deliveries at good hours are seen more often."""
    world = World(
        5, total=40_000, end_ms=END_MS, shares=NOTHING_WRONG, people=500, span_s=20 * 3_600
    )
    people = {person.subject: person for person in world.residents}
    delivered: dict[str, bool] = {}
    seen = set()
    for message in world.stream():
        event = message.event
        if event is None or event.subject not in people:
            continue
        if event.label.type == "ntf.delivery.delivered.v1":
            person = people[event.subject]
            energy = ENERGY[person.chronotype][hour_of_day(person.zone, event.time_ms)]
            delivered[event.id] = energy > 0.5
        elif event.label.type == "ntf.engagement.seen.v1":
            seen.add(event.cause)
    good = [cause in seen for cause, is_good in delivered.items() if is_good]
    bad = [cause in seen for cause, is_good in delivered.items() if not is_good]

    assert sum(good) / len(good) > 1.5 * sum(bad) / len(bad)


def test_all_stages_and_all_routed_topics_have_messages() -> None:
    messages = list(World(6, total=20_000, end_ms=END_MS))
    stages = {EVENT_TYPES[m.event.label.type].stage for m in messages if m.event}
    kinds = {m.event.label.type for m in messages if m.event}
    routed = Counter(message.routed for message in messages if message.routed)

    assert {
        "request",
        "orchestration",
        "delivery",
        "engagement",
        "outcome",
        "profile",
    } == stages
    assert {"open", "restricted", "pci"} == {topic.split(".")[2] for topic in routed}
    assert min(routed.values()) > 20
    assert {"ntf.outcome.payment_received.v1", "ntf.outcome.registered.v1"} < kinds


def test_payments_carry_card_data_for_payment_only() -> None:
    for message in World(6, total=20_000, end_ms=END_MS):
        event = message.event
        if event and event.label.type == "ntf.outcome.payment_received.v1":
            assert ("payment", "GDPR,PCI") == (event.label.purpose, event.label.classes)
            assert event.body["amount_minor"] > 0
            assert len(event.body["currency"]) == 3


def test_every_cause_is_an_earlier_event_of_the_same_journey() -> None:
    journeys: dict[str, str] = {}
    world = World(8, total=8_000, end_ms=END_MS, shares=msgspec.structs.replace(NOTHING_WRONG))
    for message in world.stream():
        event = message.event
        assert event is not None
        assert not event.cause or journeys[event.cause] == event.journey
        journeys[event.id] = event.journey


def test_the_key_is_the_person_or_else_the_event_itself() -> None:
    events = [message for message in World(6, total=8_000, end_ms=END_MS) if message.event]
    nobody = [message for message in events if message.event and not message.event.subject]

    assert 20 < len(nobody) < len(events)
    assert {message.key for message in nobody} == {message.id.encode() for message in nobody}
    for message in events:
        assert message.event is not None
        assert message.key == (message.event.subject or message.id).encode()


def test_some_profiles_are_older_than_late_corrections_reach() -> None:
    world = World(6, total=8_000, end_ms=END_MS)
    times = [message.event.time_ms for message in world.profiles() if message.event]
    old = [at_ms for at_ms in times if at_ms < world.start_ms - 24 * HOUR_MS]

    assert 0.02 * len(times) < len(old) < 0.03 * len(times)
    assert 1 == len({at_ms // 60_000 for at_ms in old})
