"""Counts of what was checked and what failed, per minute, topic, producer and rule."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from schemas.blocks import Rows, rows_of
from schemas.quality import Quality

MINUTE_MS: Final = 60_000
OTHER: Final = "(other)"
"""All producers of a topic beyond the bound, together."""
UNKNOWN: Final = "(unknown)"
"""The producer of messages whose source could not be read."""

_CHECKED, _FAILED, _CORRECTED, _WIDTH = 0, 1, 2, 3


class Key(NamedTuple):
    """One cell: all rules of a producer's minute on a topic. Units: minutes since 1970 UTC."""

    minute: int
    dataset: str
    producer: str


class Cells:
    """The minutes of one lane that can still change.

    State: three numbers for each rule of a cell: checked, failed, corrections. Rows are absolute:
    what a row's version counts is all that was folded into it, so a repeat changes nothing.
    `cells_max`: for one more, the oldest minute goes; what comes for it later is counted in the
    oldest minute that is left.
    """

    def __init__(self, quality: Quality, *, producers_max: int, cells_max: int) -> None:
        self._rules = quality.rules
        self._producers_max = producers_max
        self._cells_max = cells_max
        self._cells: dict[Key, list[int]] = {}
        self._producers: dict[str, dict[str, None]] = {}
        self._changed: dict[Key, None] = {}
        self.floor = 0

    def __len__(self) -> int:
        return len(self._cells)

    def producer_of(self, dataset: str, source: str) -> str:
        """The name under which a source is counted on a topic."""
        known = self._producers.setdefault(dataset, {})
        name = source or UNKNOWN
        if name not in known:
            if len(known) >= self._producers_max:
                return OTHER
            known[name] = None
        return name

    def key_of(self, minute: int, dataset: str, source: str) -> Key:
        """The cell of a message; the oldest one that is left, for what is older."""
        return Key(max(minute, self.floor), dataset, self.producer_of(dataset, source))

    def count(self, key: Key, rule: int, checked: int, failed: int) -> None:
        """Add what one rule said of some messages."""
        cell = self._cell(key)
        cell[rule * _WIDTH + _CHECKED] += checked
        cell[rule * _WIDTH + _FAILED] += failed
        self._changed[key] = None

    def correct(self, key: Key, rule: int) -> None:
        """Take one failure back, as something came that shows that it was none."""
        cell = self._cells.get(key)
        if cell is not None:
            cell[rule * _WIDTH + _FAILED] -= 1
            cell[rule * _WIDTH + _CORRECTED] += 1
            self._changed[key] = None

    def _cell(self, key: Key) -> list[int]:
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = [0] * (_WIDTH * len(self._rules))
        return cell

    def found(self, key: Key, rule: int) -> tuple[int, int]:
        """How many were checked and how many failed, so far."""
        cell = self._cells.get(key)
        if cell is None:
            return 0, 0
        return cell[rule * _WIDTH + _CHECKED], cell[rule * _WIDTH + _FAILED]

    def take_rows(self, lane: int) -> Rows:
        """The rows of all cells that changed since this was asked."""
        lines: list[tuple[Any, ...]] = []
        for key in self._changed:
            cell = self._cells[key]
            for number, rule in enumerate(self._rules):
                checked, failed, corrected = cell[number * _WIDTH : (number + 1) * _WIDTH]
                if checked:
                    severity = rule.severity(checked, failed)
                    name, dimension = rule.name, rule.dimension
                    more = (checked, failed, severity, lane, checked + corrected)
                    lines.append(
                        (key.minute * MINUTE_MS, key.dataset, key.producer, name, dimension, *more)
                    )
        self._changed.clear()
        return rows_of("quality", COLUMNS, lines)

    def drop_before(self, minute: int) -> None:
        """Forget minutes that nothing can correct any more, and the oldest beyond the bound.

        Only between `take_rows` and the next count: what changed is told first.
        """
        floor = max(minute, self.floor)
        while len(self._cells) > self._cells_max:
            oldest = min(key.minute for key in self._cells)
            self._forget(oldest + 1)
            floor = max(floor, oldest + 1)
        if floor > self.floor:
            self._forget(floor)
            self.floor = floor

    def _forget(self, floor: int) -> None:
        for key in [key for key in self._cells if key.minute < floor]:
            del self._cells[key]

    def dump(self) -> dict[str, Any]:
        """A copy, for a snapshot."""
        return {
            "rules": [rule.name for rule in self._rules],
            "floor": self.floor,
            "producers": {name: list(known) for name, known in self._producers.items()},
            "cells": [[*key, cell] for key, cell in self._cells.items()],
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave; a rule that is new starts at nothing, others are kept."""
        self.floor = dumped["floor"]
        self._producers = {
            name: dict.fromkeys(known) for name, known in dumped["producers"].items()
        }
        places = {name: number for number, name in enumerate(dumped["rules"])}
        order = [places.get(rule.name) for rule in self._rules]
        for minute, dataset, producer, cell in dumped["cells"]:
            parts = (
                [0] * _WIDTH if at is None else cell[at * _WIDTH : (at + 1) * _WIDTH]
                for at in order
            )
            self._cells[Key(minute, dataset, producer)] = [n for part in parts for n in part]


COLUMNS: Final = (
    "w",
    "dataset",
    "producer",
    "rule",
    "dimension",
    "checked",
    "failed",
    "severity",
    "lane",
    "ver",
)
