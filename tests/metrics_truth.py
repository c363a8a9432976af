"""What every metric of the catalog has to say of a world, in plain arithmetic over what happened.

Nothing here is compiled from the catalog: each metric is counted journey by journey.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC
from itertools import accumulate
from math import isclose
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client

from flows.query.ask import answer
from flows.query.compile import Question, compile_question
from flows.simulate.expected import Happening
from flows.simulate.truth import Fact, Truth
from schemas.metrics import load_catalog

COSTS: Final = {"email": 0.5, "sms": 4.5, "push": 0.25}
ALL_TIME: Final = {"since_s": 0, "until_s": 2_000_000_000}
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
PAYMENT: Final = "outcome.payment_received"

Value = float | None


class Told(NamedTuple):
    """One journey as it truly went: its events in order of time."""

    events: list[Happening]

    def has(self, word: str) -> bool:
        return bool(self.times(word))

    def times(self, word: str) -> list[int]:
        return [event.at for event in self.events if event.act == word]

    def money(self, word: str, currency: str) -> int:
        return sum(
            event.amount_minor
            for event in self.events
            if event.act == word and event.currency == currency
        )

    @property
    def channel(self) -> str:
        channels = [event.channel for event in self.events if event.channel]
        return channels[-1] if channels else ""

    @property
    def campaign(self) -> str:
        return self.events[0].campaign

    def within(self, base: str, other: str, span_ms: int) -> bool:
        first = self.times(base)[0]
        return any(first <= at <= first + span_ms for at in self.times(other))


def stories_of(truth: Truth) -> list[Told]:
    """Every journey of a world."""
    return [
        Told(sorted(found, key=lambda one: (one.at, one.act, one.id)))
        for found in truth.journeys.values()
    ]


def currency_of(stories: Iterable[Told]) -> str:
    """The one that most payments are in."""
    paid = Counter(
        event.currency for story in stories for event in story.events if event.act == PAYMENT
    )
    return paid.most_common(1)[0][0] if paid else "EUR"


def has(word: str) -> Callable[[Told], bool]:
    return lambda story: story.has(word)


CONVERTED: Final = ("outcome.registered", PAYMENT, "outcome.converted")
COUNTS: Final[Mapping[str, Callable[[Told], bool]]] = {
    "journeys": lambda _: True,
    "sent": has("delivery.sent"),
    "delivered": has("delivery.delivered"),
    "bounced": has("delivery.bounced"),
    "suppressed": has("orchestration.suppressed"),
    "opened": has("engagement.opened"),
    "opened_by_machine": has("engagement.opened_by_machine"),
    "clicked": has("engagement.clicked"),
    "converted": lambda story: any(story.has(word) for word in CONVERTED),
    "unsubscribed": has("engagement.unsubscribed"),
    "complained": has("engagement.complained"),
}
RATIOS: Final = {
    "delivery_rate": ("delivered", "sent"),
    "bounce_rate": ("bounced", "sent"),
    "open_rate": ("opened", "delivered"),
    "click_rate": ("clicked", "delivered"),
    "click_to_open": ("clicked", "opened"),
    "conversion_rate": ("converted", "delivered"),
    "unsubscribe_rate": ("unsubscribed", "delivered"),
    "complaint_rate": ("complained", "delivered"),
}


def of_journeys(stories: list[Told], currency: str) -> dict[str, Value]:
    """The metrics that are about journeys and need no grain."""
    found: dict[str, Value] = {
        name: sum(test(story) for story in stories) for name, test in COUNTS.items()
    }
    counts = dict(found)

    def share(above: Value, below: Value) -> Value:
        return above / below if below and above is not None else None

    found |= {name: share(counts[a], counts[b]) for name, (a, b) in RATIOS.items()}
    paid = sum(story.money(PAYMENT, currency) for story in stories)
    back = sum(story.money("outcome.refunded", currency) for story in stories)
    sends = [(len(story.times("delivery.sent")), story.channel) for story in stories]
    found["messages"] = sum(n for n, _ in sends)
    revenue, cost = paid - back, sum(n * COSTS.get(channel, 0.0) for n, channel in sends)
    found |= {"revenue": revenue, "cost": cost, "profit": revenue - cost}
    found["revenue_per_1k"] = share(revenue * 1_000, counts["sent"])
    found["cost_per_conversion"] = share(cost, counts["converted"])
    found["roi"] = share(revenue - cost, cost)
    reached = [story for story in stories if story.has("delivery.delivered")]
    for name, other, span in (
        ("open_within_1d", "engagement.opened", DAY_MS),
        ("paid_within_7d", PAYMENT, 7 * DAY_MS),
    ):
        hits = sum(story.within("delivery.delivered", other, span) for story in reached)
        found[name] = share(hits, len(reached))
    return found


def waits_of(stories: Iterable[Told]) -> list[float]:
    """Seconds from delivery to a person's first open, the shortest first."""
    return sorted(
        (story.times("engagement.opened")[0] - story.times("delivery.delivered")[0]) / 1_000
        for story in stories
        if story.has("engagement.opened") and story.has("delivery.delivered")
    )


def waiting(stories: Iterable[Told]) -> dict[str, Value]:
    """Exact quantiles: the wait that so many others are shorter than."""
    waits = waits_of(stories)
    return {
        f"time_to_engage_p{q}": waits[min(len(waits) * q // 100, len(waits) - 1)] if waits else None
        for q in (50, 95)
    }


def running(stories: Iterable[Told], currency: str) -> dict[int, dict[str, Value]]:
    """Running sums by hour since 1970, of the hours in which journeys started."""
    hours: dict[int, list[Told]] = defaultdict(list)
    for story in stories:
        hours[story.events[0].at // HOUR_MS].append(story)
    values = {hour: of_journeys(part, currency) for hour, part in sorted(hours.items())}
    so_far = accumulate(part["revenue"] or 0 for part in values.values())
    return {
        hour: {
            "revenue_so_far": total,
            "sent_7d": sum(
                part["sent"] or 0 for other, part in values.items() if hour - 168 < other <= hour
            ),
        }
        for hour, total in zip(values, so_far, strict=True)
    }


def of_events(facts: Iterable[Fact], currency: str) -> dict[str, Value]:
    """The metrics of events."""
    all_of = list(facts)
    paid = f"ntf.{PAYMENT}.v1"
    return {
        "events": len(all_of),
        "paid_amount": sum(
            fact.amount_minor
            for fact in all_of
            if fact.event_type == paid and fact.currency == currency
        ),
    }


def alike(found: Value, wanted: Value) -> bool:
    if found is None or wanted is None or found != found:  # noqa: PLR0124 - not a number
        return (found is None or found != found) and wanted is None  # noqa: PLR0124 - the same
    return isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)


def ask(client: Client, currency: str, *metrics: str, **more: Any) -> list[dict[str, Any]]:
    """The lines of a question, each as a dict."""
    asked = {**ALL_TIME, "currency": currency, "costs": COSTS, **more}
    query = compile_question(load_catalog(), Question(metrics, **asked))
    names = (*query.keys, *query.metrics)
    return [dict(zip(names, line, strict=True)) for line in answer(client, query)]


def hour_of(line: Mapping[str, Any]) -> int:
    return int(line["t"].replace(tzinfo=UTC).timestamp()) // 3_600


class Compared(NamedTuple):
    """What was compared: the metrics, how many values, and which of them differ."""

    metrics: set[str]
    values: int
    differing: list[str]


def compare(client: Client, truth: Truth) -> Compared:
    """Ask for every metric in all, by campaign and by hour, and compare with the truth."""
    metrics, values, differing = set(), 0, []
    for where, name, found, wanted in _pairs(client, truth):
        metrics.add(name)
        values += 1
        if not alike(found, wanted):
            differing.append(f"{name} {where}: found {found}; expected {wanted}")
    return Compared(metrics, values, differing)


def _pairs(client: Client, truth: Truth) -> Iterator[tuple[str, str, Value, Value]]:
    stories = stories_of(truth)
    currency = currency_of(stories)
    facts = list(truth.facts.values())
    wanted = of_journeys(stories, currency) | waiting(stories) | of_events(facts, currency)
    [line] = ask(client, currency, *wanted)
    yield from (("in all", name, line[name], value) for name, value in wanted.items())
    campaigns: dict[str, dict[str, Value]] = {}
    for campaign in {fact.campaign for fact in facts}:
        mine = [story for story in stories if story.campaign == campaign]
        of_mine = [fact for fact in facts if fact.campaign == campaign]
        events = of_events(of_mine, currency)
        # Journeys and events stand in one line; a campaign without journeys has none of theirs.
        campaigns[campaign] = (of_journeys(mine, currency) | events) if mine else events
    for line in ask(client, currency, *of_journeys([], ""), *of_events([], ""), by=("campaign",)):
        of_line = campaigns.pop(line["campaign"], {"events": 0})
        yield from (
            (f"of {line['campaign']}", name, line[name], value) for name, value in of_line.items()
        )
    yield from (("by campaign", "events", 0, part["events"]) for part in campaigns.values())
    hours = running(stories, currency)
    for line in ask(client, currency, "revenue_so_far", "sent_7d", grain="hour"):
        of_hour = hours.pop(hour_of(line), {"revenue_so_far": None, "sent_7d": None})
        yield from (("by hour", name, line[name], value) for name, value in of_hour.items())
    yield from (("by hour", name, None, part[name]) for part in hours.values() for name in part)
