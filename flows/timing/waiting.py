"""What a lane waits for, as one part of its state: messages that are planned or without outcome."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from flows.steps.noted import Changes
from flows.timing.feedback import Feedback, Send
from flows.timing.plans import Plans


class _Told(msgspec.Struct, array_like=True, gc=False):
    """Changes of both; None for nothing."""

    plans: Changes | None
    sends: tuple[list[str], list[str], list[Send]] | None


class Waiting(NamedTuple):
    """Plans of people and sends of journeys.

    Promise: after `load` and `apply` it leads to the same decisions and lessons as what was dumped.
    """

    plans: Plans
    feedback: Feedback

    def dump(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {"plans": self.plans.dump(), "feedback": self.feedback.dump()}

    def load(self, dumped: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self.plans.load(dumped["plans"])
        self.feedback.load(msgspec.convert(dumped["feedback"], list[tuple[str, Send]]))

    def watch(self) -> None:
        """Note changes from now on."""
        for part in self:
            part.watch()

    def has_erased(self) -> bool:
        """Whether a person was forgotten by a wish, whom earlier changes name."""
        return self.plans.erased or self.feedback.erased

    def take_changes(self) -> bytes:
        """What changed since the last time; empty for nothing."""
        told = _Told(self.plans.take_changes(), self.feedback.take_changes())
        return msgspec.msgpack.encode(told) if told.plans or told.sends else b""

    def apply(self, changes: bytes) -> None:
        """Change as `take_changes` told."""
        told = msgspec.msgpack.decode(changes, type=_Told)
        if told.plans is not None:
            self.plans.apply(told.plans)
        if told.sends is not None:
            self.feedback.apply(told.sends)
