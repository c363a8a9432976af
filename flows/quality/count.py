"""Apply the rules to a block: what was checked, what failed, and which types came."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache

from flows.quality.agree import Agreement
from flows.quality.cells import MINUTE_MS, Cells, Key
from schemas.blocks import AcceptedBlock
from schemas.events import EVENT_TYPES
from schemas.quality import Quality, Rule
from schemas.ticket import Label
from schemas.topics_catalog import load_topics


class Counter:
    """The rules of one lane, and what they are counted in. State: none of its own."""

    def __init__(self, quality: Quality, cells: Cells, agreement: Agreement) -> None:
        self._rules = list(enumerate(quality.rules))
        self._cells = cells
        self._agreement = agreement
        self._known: dict[tuple[str, str], list[tuple[int, Rule]]] = {}
        self._paired = [
            (number, rule)
            for number, rule in self._rules
            if rule.after is not None or rule.constant is not None
        ]

    def count_accepted(self, block: AcceptedBlock) -> dict[Key, dict[str, int]]:
        """Count a block's events; how many of each type came, by cell."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, (at_ms, label) in enumerate(zip(block.times_ms, block.labels, strict=True)):
            groups[at_ms // MINUTE_MS, id(label)].append(place)
        types: dict[Key, dict[str, int]] = {}
        for (minute, _), places in groups.items():
            label = block.labels[places[0]]
            dataset = dataset_of(block.topic, label.type)
            key = self._cells.key_of(minute, dataset, label.source)
            mix = types.setdefault(key, {})
            mix[label.type] = mix.get(label.type, 0) + len(places)
            for number, rule in self._rules_of(dataset, label.type):
                if rule.after is None and rule.constant is None:
                    failed = _failed(rule, block, places)
                    self._cells.count(key, number, len(places), failed)
        for place, number, rule, label in self._pairs(block):
            minute = block.times_ms[place] // MINUTE_MS
            dataset = dataset_of(block.topic, label.type)
            key = self._cells.key_of(minute, dataset, label.source)
            self._agree(block, place, number, rule, key)
        return types

    def _pairs(self, block: AcceptedBlock) -> Iterator[tuple[int, int, Rule, Label]]:
        """In the order of the block: what has to agree with what came before it."""
        labels = block.labels
        of = [self._rules_of(dataset_of(block.topic, label.type), label.type) for label in labels]
        for pair in self._paired:
            number, rule = pair
            for place, label in enumerate(labels):
                if label.type == rule.after or pair in of[place]:
                    yield place, number, rule, label

    def _agree(self, block: AcceptedBlock, place: int, number: int, rule: Rule, key: Key) -> None:
        body = block.bodies[place]
        if rule.constant is not None:
            value, of = getattr(body, rule.constant), getattr(body, rule.of or "")
            if value and of:
                failed = self._agreement.differs(number, of, value)
                self._cells.count(key, number, 1, int(failed))
            return
        notification = body.notification_id
        # What names nobody may be in any lane, and so may its other half.
        if not notification or not block.subjects[place]:
            return
        if block.labels[place].type == rule.after:
            self._agreement.came(number, notification, key.minute)
        else:
            failed = self._agreement.misses(number, notification, key)
            self._cells.count(key, number, 1, int(failed))

    def count_refused(
        self, dataset: str, refused: Mapping[tuple[str, str], int], minute: int
    ) -> None:
        """Count refused messages in a minute, by source and code."""
        for (source, code), n in refused.items():
            key = self._cells.key_of(minute, dataset, source)
            for number, rule in self._rules:
                if rule.codes is not None and rule.is_of(dataset):
                    failed = n if any(code.startswith(part) for part in rule.codes) else 0
                    self._cells.count(key, number, n, failed)

    def _rules_of(self, dataset: str, event_type: str) -> list[tuple[int, Rule]]:
        found = self._known.get((dataset, event_type))
        if found is None:
            found = [pair for pair in self._rules if pair[1].is_of(dataset, event_type)]
            self._known[dataset, event_type] = found
        return found


@lru_cache(maxsize=4_096)
def dataset_of(topic: str, event_type: str) -> str:
    """The topic that an event was produced to, also where it is read from a routed one.

    >>> dataset_of("ntf.routed.open.v1", "ntf.delivery.sent.v1")
    'ntf.delivery.v1'
    """
    known, kind = load_topics().get(topic), EVENT_TYPES.get(event_type)
    if kind is None or (known is not None and known.event_types):
        return topic
    return kind.topic


def _failed(rule: Rule, block: AcceptedBlock, places: list[int]) -> int:
    if rule.missing is not None:
        name, bodies = rule.missing, block.bodies
        return sum(not getattr(bodies[place], name) for place in places)
    if rule.delay_s is not None:
        bound_ms, times, recorded = rule.delay_s * 1_000, block.times_ms, block.recorded_ms
        return sum(recorded[place] - times[place] > bound_ms for place in places)
    return 0
