"""What is sent while things break: a simulated world, and bursts that it does not have.

Every message that Kafka confirms is noted with what has to become of it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from random import Random
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as Confirmed

from flows.simulate import Shares, Truth, World, simulate
from flows.simulate.events import Event, Label, Message, label_of, message_of
from flows.simulate.faults import refuse, set_header
from schemas.errors import PermanentError
from tests.chaos.oracle import CANARY

HOUR_MS: Final = 3_600_000
LATENESS_S: Final = 86_400
JUMP_MS: Final = 2 * HOUR_MS
RECORD_AHEAD_MS: Final = 50 * 60_000
# Nothing is newer than this: a target whose clock is two hours slow has no reason to refuse it.
REST_MS: Final = 3 * HOUR_MS
# Bursts move partitions ahead of the world; it has no message near the bound of lateness. Too late
# ones are in the bursts, days behind.
GATE_LATENESS_S: Final = LATENESS_S + 3 * 3_600
SHARES: Final = Shares(too_late=0.0)
CONFIRM_S_MAX: Final = 150.0
SEND_S_MAX: Final = 300.0

_PERSONAL: Final = label_of(
    "ntf.engagement.opened.v1", "/apps/harbour", "transactional_notice", "GDPR,PII", ("behaviour",)
)
_PUBLIC: Final = label_of(
    "ntf.engagement.opened.v1", "/apps/harbour", "transactional_notice", "PUBLIC", ()
)


class Noted(NamedTuple):
    """A confirmed message and its place."""

    message: Message
    partition: int
    offset: int
    recorded_ms: int


class Bursts:
    """Makes and sends messages of invented people that no world knows, each with its fate.

    Units: times in milliseconds; nothing lies after `end_ms` but for a clock that jumps.
    """

    def __init__(self, servers: str, *, seed: int, end_ms: int) -> None:
        self._servers = servers
        self._seed = seed
        self._end_ms = end_ms
        self._number = count()
        self.noted: list[Noted] = []

    def skewed(self, rng: Random, size: int) -> int:
        """Nine of ten are about one person."""
        one = self._person(rng)
        times = self._times(rng, size, HOUR_MS)
        people = [one if rng.random() < 0.9 else self._person(rng) for _ in times]
        return self.send(map(self._opened, people, times))

    def backlog(self, rng: Random, size: int) -> int:
        """Two hours of events at once."""
        times = self._times(rng, size, 2 * HOUR_MS)
        return self.send(self._opened(self._person(rng), at_ms) for at_ms in times)

    def poison(self, rng: Random, size: int) -> int:
        """Nothing but messages that are wrong, with values planted wherever they can be."""
        times = self._times(rng, size, HOUR_MS)
        return self.send(self._wrong(rng, self._person(rng), at_ms) for at_ms in times)

    def jump(self, rng: Random, size: int) -> int:
        """A producer whose clock goes back by two hours, comes right, and runs ahead.

        Kafka itself refuses records more than an hour ahead, so a record goes no further than
        that; the gate refuses an event so far ahead.
        """
        messages = []
        for at_ms in self._times(rng, size, HOUR_MS):
            person = self._person(rng)
            messages.append(self._opened(person, at_ms - rng.choice((0, JUMP_MS))))
            luck = rng.random()
            if luck < 0.1:
                late = self._opened(person, at_ms - 20 * 24 * HOUR_MS)
                messages.append(refuse(late, kind="too_late", code="T601"))
            elif luck > 0.7:
                early = self._opened(person, at_ms + JUMP_MS)
                early.timestamp_ms = at_ms + RECORD_AHEAD_MS
                messages.append(refuse(early, kind="too_early", code="T105"))
        return self.send(messages)

    def repeats(self, rng: Random, size: int) -> int:
        """Each message twice, as a producer sends them that heard no answer."""
        messages = []
        for at_ms in self._times(rng, size, HOUR_MS):
            person = self._person(rng)
            first = self._opened(person, at_ms)
            again = Message(**{name: getattr(first, name) for name in first.__struct_fields__})
            messages += [first, refuse(again, kind="repeat", code="T602")]
        return self.send(messages)

    def _person(self, rng: Random) -> str:
        return f"usr_{rng.getrandbits(64):016x}"

    def _times(self, rng: Random, size: int, span_ms: int) -> list[int]:
        return sorted(self._end_ms - rng.randrange(span_ms) for _ in range(size))

    def _opened(self, person: str, at_ms: int, label: Label = _PERSONAL) -> Message:
        number = next(self._number)
        name = f"{self._seed & 0xFFFFFF:06x}-{number:08d}"
        body: dict[str, Any] = {
            "journey_id": f"jny-{name}",
            "notification_id": f"ntf-{name}",
            "campaign": "harbour-news",
            "tenant": "harbour",
            "channel": "email",
            "provider": "postwing",
            "machine": False,
        }
        personal = label is _PERSONAL
        if personal:
            body |= {"subject": person, "remark": f"{CANARY}{name}"}
        event = Event(
            label=label,
            id=f"chs-{name}",
            time_ms=at_ms,
            journey=f"jny-{name}",
            subject=person if personal else "",
            key=person.encode() if personal else f"chs-{name}".encode(),
            cause="",
            body=body,
            extras=(("x-remark", f"{CANARY}{name}".encode()),) if personal else (),
            warnings=("T604",) if personal else (),
        )
        message = message_of(event, at_ms + number % 700)
        message.number = number
        return message

    def _wrong(self, rng: Random, person: str, at_ms: int) -> Message:
        message = self._opened(person, at_ms)
        planted = f"{CANARY}{message.id}".encode()
        kind = rng.choice(("not_json", "unknown_purpose", "null_key", "no_time", "wrong_type"))
        if kind == "not_json":
            message.value = b"{" + planted
            return refuse(message, kind=kind, code="T303")
        if kind == "unknown_purpose":
            set_header(message, "ce_datapurpose", b"curiosity")
            return refuse(message, kind=kind, code="T201")
        if kind == "null_key":
            message.key = None
            return refuse(message, kind=kind, code="T107")
        if kind == "no_time":
            set_header(message, "ce_time", planted)
            return refuse(message, kind=kind, code="T105")
        message.value = b'{"journey_id":"' + planted + b'"}'
        return refuse(message, kind=kind, code="T302")

    def public(self, rng: Random, size: int) -> int:
        """Messages about nobody, for the open topic."""
        times = self._times(rng, size, HOUR_MS)
        return self.send(self._opened(self._person(rng), at_ms, _PUBLIC) for at_ms in times)

    def send(self, messages: Iterable[Message]) -> int:
        """Send, wait for every confirmation, note the places; gives how many."""
        producer = Producer(
            {
                "bootstrap.servers": self._servers,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": int(CONFIRM_S_MAX * 1_000),
            }
        )
        failed: list[str] = []
        sent = 0
        before = len(self.noted)
        for message in messages:
            headers: Any = message.headers
            producer.produce(
                message.topic,
                value=message.value,
                key=message.key,
                headers=headers,
                timestamp=message.timestamp_ms,
                on_delivery=self._confirm(message, failed),
            )
            producer.poll(0)
            sent += 1
        left = producer.flush(CONFIRM_S_MAX)
        if left or failed or len(self.noted) - before != sent:
            raise PermanentError(
                do="send", kind="burst", found=f"{left} unanswered, {dict(Counter(failed))} refused"
            )
        return sent

    def _confirm(
        self, message: Message, failed: list[str]
    ) -> Callable[[KafkaError | None, Confirmed], None]:
        def confirm(error: KafkaError | None, at: Confirmed) -> None:
            offset = at.offset()
            if error is not None or offset is None:
                failed.append(error.name() if error is not None else "no offset")
            else:
                noted = Noted(message, at.partition() or 0, offset, message.timestamp_ms)
                self.noted.append(noted)

        return confirm


class Load:
    """Sends a world at a pace from a thread of its own; the truth is whole once it is ended.

    `profiles_decided` is called in that thread between the profiles and the stream, since nothing
    orders topics among each other.
    """

    def __init__(
        self, servers: str, *, seed: int, seconds: float, rate: int, people: int = 300
    ) -> None:
        self.end_ms = time.time_ns() // 1_000_000 - REST_MS
        self.world = World(
            seed,
            total=max(int(seconds * rate), 2_000),
            end_ms=self.end_ms,
            people=people,
            shares=SHARES,
            lateness_s=LATENESS_S,
        )
        self.bursts = Bursts(servers, seed=seed, end_ms=self.end_ms)
        self.truth = Truth()
        self._servers = servers
        self._rate = rate
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._work: Future[Truth] | None = None

    @property
    def sent(self) -> int:
        """Messages confirmed so far, of world and bursts."""
        return self.truth.total + len(self.bursts.noted)

    def start(self, profiles_decided: Callable[[], None]) -> None:
        """Begin to send."""
        self._work = self._pool.submit(
            simulate,
            self.world,
            bootstrap_servers=self._servers,
            rate=self._rate,
            truth=self.truth,
            stop=self._stop.is_set,
            between=profiles_decided,
        )

    def is_sending(self) -> bool:
        return self._work is not None and not self._work.done()

    def is_ending(self) -> bool:
        return self._stop.is_set()

    def end(self) -> Truth:
        """Stop sending, wait for what is out, and give the truth of everything.

        Errors: what the sender raised.
        """
        self._stop.set()
        if self._work is not None:
            self._work.result(SEND_S_MAX)
            self._work = None
            for noted in self.bursts.noted:
                self.truth.note(
                    noted.message,
                    partition=noted.partition,
                    offset=noted.offset,
                    recorded_ms=noted.recorded_ms,
                )
            self.bursts.noted.clear()
        self._pool.shutdown()
        return self.truth

    def abandon(self) -> None:
        """Stop sending; what is out has a bound of its own."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
