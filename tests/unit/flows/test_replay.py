"""Replaying a file: to the right topic, at the right moment, with every line accounted for."""

from __future__ import annotations

import gzip
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.clock import ManualClock
from flows import commands
from flows.lines import LineFile
from flows.replay import LINE_BYTES_MAX, Replay, Replayed, replay
from flows.structured_event import BinaryEvent
from schemas.errors import ConfigError, PermanentError
from schemas.topics_catalog import load_topics

NOWHERE = "127.0.0.1:1"
HOUR_S = 3_600


class FakeSender:
    """Keeps what was sent with the moment of it; waiting moves the clock."""

    def __init__(self, clock: ManualClock) -> None:
        self.sent: list[tuple[float, str, BinaryEvent]] = []
        self.waits: list[float] = []
        self.finished = False
        self._clock = clock

    def send(self, topic: str, event: BinaryEvent) -> None:
        self.sent.append((self._clock.steady_s(), topic, event))

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._clock.move(max(1, round(seconds * 1_000)))

    def finish(self) -> None:
        self.finished = True


class Bench:
    """A replay of some lines with a clock in the hand."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.sender = FakeSender(self.clock)
        self.path = folder / "events.jsonl"
        self.seen: list[tuple[int, int]] = []

    def run(
        self,
        *lines: bytes,
        speed: float | None = None,
        stop: Callable[[], bool] = lambda: False,
        **more: Any,
    ) -> Replayed:
        self.path.write_bytes(b"\n".join(lines))
        run = Replay(
            sender=self.sender,
            topics=load_topics(),
            speed=speed,
            clock=self.clock,
            stop=stop,
            **more,
        )
        with LineFile(self.path, line_bytes_max=LINE_BYTES_MAX) as file:
            return run.run(file, lambda done, size: self.seen.append((done, size)))

    def moments(self) -> list[float]:
        return [at_s for at_s, _, _ in self.sender.sent]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def event(event_type: str = "ntf.request.created.v1", time: str | None = None) -> bytes:
    return orjson.dumps({"type": event_type, "id": "evt-00000001", "time": time, "data": {}})


def at(*seconds: int) -> list[bytes]:
    return [
        event(
            time=f"2026-07-{1 + s // 86_400:02}T{s // 3_600 % 24:02}:{s // 60 % 60:02}:{s % 60:02}Z"
        )
        for s in seconds
    ]


def test_each_event_goes_to_the_topic_that_takes_its_type(bench: Bench) -> None:
    types = [
        "ntf.request.created.v1",
        "ntf.orchestration.delayed.v1",
        "ntf.delivery.sent.v1",
        "ntf.engagement.replied.v1",
        "ntf.outcome.converted.v1",
        "ntf.profile.updated.v1",
    ]
    bench.run(*map(event, types))

    assert [
        "ntf.requests.v1",
        "ntf.requests.v1",
        "ntf.delivery.v1",
        "ntf.engagement.v1",
        "ntf.engagement.v1",
        "ntf.profiles.v1",
    ] == [topic for _, topic, _ in bench.sender.sent]


def test_what_ingest_will_refuse_is_published_all_the_same(bench: Bench) -> None:
    """An unknown type of a known family, and a ticket without most of its attributes."""
    done = bench.run(event("ntf.request.invented.v9"), b'{"type": "ntf.request.created.v1"}')

    assert (2, 0) == (done.published, done.faults.total)


def test_a_line_that_cannot_be_published_stops_nothing_and_is_counted(bench: Bench) -> None:
    large = orjson.dumps({"type": "ntf.request.created.v1", "data": "x" * 5_300_000})
    done = bench.run(
        event(),
        b"{",
        event("weather.report.v1"),
        b'{"id": "evt-00000001"}',
        large,
        b"x" * (LINE_BYTES_MAX + 1),
        event(),
    )

    assert (7, 2, 5) == (done.lines, done.published, done.faults.total)
    assert [
        (2, "not JSON"),
        (3, "no topic takes its event type"),
        (4, "no event type"),
        (5, "larger than its topic takes"),
        (6, f"longer than {LINE_BYTES_MAX} bytes"),
    ] == done.faults.first
    assert bench.sender.finished


def test_without_a_speed_nothing_waits(bench: Bench) -> None:
    bench.run(*at(0, HOUR_S, 5 * HOUR_S))

    assert [] == bench.sender.waits


@pytest.mark.parametrize(("speed", "last_s"), [(1.0, 90.0), (60.0, 1.5), (0.5, 180.0)])
def test_the_speed_is_event_time_by_real_time(bench: Bench, speed: float, last_s: float) -> None:
    bench.run(*at(0, 60, 90), speed=speed)

    assert [0.0, last_s * 2 / 3, last_s] == pytest.approx(bench.moments())
    assert max(bench.sender.waits) <= 0.1


def test_events_out_of_order_do_not_slow_down_the_ones_after_them(bench: Bench) -> None:
    bench.run(*at(0, 30, 10, 40), speed=1.0)

    assert [0.0, 30.0, 30.0, 40.0] == pytest.approx(bench.moments())


def test_an_event_without_a_time_goes_with_the_one_before(bench: Bench) -> None:
    bench.run(*at(0, 30), event(), event(time="soon"), *at(40), speed=1.0)

    assert [0.0, 30.0, 30.0, 30.0, 40.0] == pytest.approx(bench.moments())


def test_one_wrong_time_costs_a_bounded_wait_and_no_pace(bench: Bench) -> None:
    done = bench.run(
        *at(0), event(time="9999-01-01T00:00:00Z"), *at(10, 20), speed=1.0, gap_s_max=100.0
    )

    assert [0.0, 100.0, 100.0, 100.0] == pytest.approx(bench.moments())
    assert 2 == done.gaps_cut


def test_a_stop_ends_a_wait_and_every_line_before_it_is_published(bench: Bench) -> None:
    done = bench.run(*at(0, 10, 86_400), speed=1.0, stop=lambda: bench.clock.at_ms > 20_000)

    assert done.stopped
    assert (2, 2) == (done.lines, done.published)
    assert bench.sender.finished
    assert bench.clock.at_ms < 21_000


def test_a_stop_ends_a_replay_that_does_not_wait(bench: Bench) -> None:
    done = bench.run(*at(*range(50)), stop=lambda: len(bench.sender.sent) == 7)

    assert (True, 7) == (done.stopped, done.published)


def test_progress_tells_how_much_of_the_file_was_read(bench: Bench) -> None:
    lines = at(*range(2_000))
    bench.run(*lines)
    size = bench.path.stat().st_size

    assert 4 == len(bench.seen)
    assert sorted(bench.seen) == bench.seen
    assert (size, size) == bench.seen[-1]


def test_gzip_is_read_by_its_content_and_not_by_its_name(bench: Bench) -> None:
    assert 3 == bench.run(gzip.compress(b"\n".join(at(0, 1, 2)))).published


def test_a_gzip_that_breaks_off_is_an_error_that_names_the_line(bench: Bench) -> None:
    with pytest.raises(PermanentError, match="after line 0: found a broken gzip"):
        bench.run(gzip.compress(event())[:-12])


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(bench: Bench, speed: float) -> None:
    bench.path.write_bytes(event())

    with pytest.raises(ConfigError, match="could not replay at speed"):
        replay(bench.path, bootstrap_servers=NOWHERE, speed=speed)


def test_the_command_needs_no_clickhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRSIDE_KAFKA__BOOTSTRAP_SERVERS", NOWHERE)

    with pytest.raises(ConfigError, match="could not read file"):
        commands.replay(Namespace(file=tmp_path / "nowhere.jsonl", speed=None))


def test_a_file_that_is_not_there_is_said_before_a_broker_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="could not read file"):
        replay(tmp_path / "nowhere.jsonl", bootstrap_servers=NOWHERE)
