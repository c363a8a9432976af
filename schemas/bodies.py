"""The bodies of a block: decoded when somebody asks, their columns out of a library's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter, call
from typing import Any, Final, overload

import numpy as np

from schemas.blocks import Coded, RawBlock
from schemas.events import COLUMNS, EventType
from schemas.events.plan import NUMBERS, SLOTS, plan_of
from schemas.fates import Refusal
from schemas.tickets import Numbers, Tickets, columns_at

Kinds = Sequence[EventType | Refusal]

_of: Final = {name: attrgetter(name) for name in COLUMNS}


class Bodies(Sequence[Any]):
    """Bodies that are right, without an object for each, and those that were decoded.

    Shapes: `decoded` has, by place, the bodies that were, and None for messages that were refused.
    State: the memory is kept as long as the bodies are.
    """

    def __init__(
        self, found: Any, raw: RawBlock, numbers: Numbers, decoders: Sequence[Any]
    ) -> None:
        self._found = found
        self._values = raw.values
        self._numbers = numbers
        self._decoders = decoders
        self.decoded: dict[int, Any] = {}
        self._all: list[Any] | None = None

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: Any) -> Any:
        if self._all is not None or isinstance(place, slice):
            return self._every()[place]
        if place in self.decoded:
            return self.decoded[place]
        return self._decoders[self._numbers[place]](self._values[place])

    def __iter__(self) -> Any:
        return iter(self._every())

    def __reduce__(self) -> tuple[Any, ...]:
        """A list in another process, which does not have the memory."""
        return list, (self._every(),)

    def _every(self) -> list[Any]:
        if self._all is None:
            decoders = [*self._decoders, _nothing]  # the last one answers for NO_LABEL, -1
            numbers = self._numbers.copy()
            numbers[list(self.decoded)] = -1
            of = map(decoders.__getitem__, numbers.tolist())
            found: list[Any] = list(map(call, of, self._values))
            for place, body in self.decoded.items():
                found[place] = body
            self._all = found
        return self._all

    def words(self, name: str, places: Sequence[int] | Numbers) -> Coded:
        """One field of the bodies at these places, for fields with few different words."""
        words, codes = self._found.words(SLOTS[name])
        known = {word: code for code, word in enumerate(words)}
        numbers = np.frombuffer(codes, np.int64)
        last = known.setdefault(None, len(known))
        numbers[numbers < 0] = last
        for place, body in self.decoded.items():
            numbers[place] = known.setdefault(_value_of(body, name), len(known))
        return Coded(list(known), _at(numbers, places))

    def texts(self, name: str, places: Sequence[int]) -> list[str | None]:
        """One field of the bodies at these places."""
        column = self._found.fields(SLOTS[name])
        for place, body in self.decoded.items():
            column[place] = _value_of(body, name)
        return columns_at(places, len(self))(column)

    def numbers(self, name: str, places: Sequence[int]) -> Numbers:
        """One field of numbers of the bodies at these places, 0 where one has none."""
        assert name in NUMBERS
        numbers = np.frombuffer(self._found.numbers(SLOTS[name]), np.int64)
        for place, body in self.decoded.items():
            numbers[place] = _value_of(body, name) or 0
        return _at(numbers, places)


def _nothing(_value: Any) -> None:
    return None


def _value_of(body: Any, name: str) -> Any:
    return None if body is None else getattr(body, name)


def _at(numbers: Numbers, places: Sequence[int] | Numbers) -> Numbers:
    found: Numbers = numbers if len(places) == len(numbers) else numbers[places]
    return found


def words_of(bodies: Sequence[Any], name: str, places: Sequence[int] | Numbers) -> Coded:
    """One field of the bodies at these places, for fields with few different words.

    Shapes: every place has a body; places rise.
    """
    if isinstance(bodies, Bodies):
        return bodies.words(name, places)
    return Coded.of(list(map(_of[name], columns_at(_as_list(places), len(bodies))(bodies))))


def _as_list(places: Sequence[int] | Numbers) -> Sequence[int]:
    return places.tolist() if isinstance(places, np.ndarray) else places


class BodyScanner:
    """Finds the bodies that are plainly right, where the tickets are in a library's memory.

    State: the library's scanner, made when it is first needed.
    """

    def __init__(self, event_types: Mapping[str, EventType]) -> None:
        self._event_types: Final = event_types
        self._places: Final = {name: place for place, name in enumerate(event_types)}
        self._scanner: Any = None

    def scan(
        self, raw: RawBlock, tickets: Tickets, kinds: Kinds, *, bytes_max: int
    ) -> tuple[Bodies, list[int]] | None:
        """The bodies, and the places of messages whose key or body somebody has to look at.

        The others are right, but for their times and their label.
        Shapes: None where nothing is in a library's memory. A body at one of these places does
        not count before it is put.
        """
        found = tickets.memory
        if found is None:
            return None
        if self._scanner is None:
            self._scanner = found.bodies(plan_of(self._event_types))
        places = [-1 if isinstance(kind, Refusal) else self._places[kind.name] for kind in kinds]
        models = np.array(places, np.int64)
        numbers = tickets.numbers
        flags = self._scanner.scan(found, raw.keys, raw.values, numbers, models, bytes_max)
        if flags is None:
            return None
        decoders = [getattr(kind, "decode", _nothing) for kind in kinds]
        suspects = np.flatnonzero(np.frombuffer(flags, np.uint8)).tolist()
        return Bodies(found, raw, numbers, decoders), suspects
