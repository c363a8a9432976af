"""The models of a lane, and where each is kept: in the lane's state, or in a journal of its own."""

from __future__ import annotations

from typing import Any

from flows.model.delivery_time import DeliveryTimeModel
from flows.model.exchange import UnreadableStateError
from flows.model.shelf import Shelf
from flows.steps.keep import Keeper, Kept, OpenJournal
from flows.timing.learners import Kind, Learner
from flows.timing.upgrade import unreadable


class Shelves:
    """Models by the names of settings.

    State: with journals, the usual model is saved by what changed of it; River's are small, and
    saved whole.
    Errors: PermanentError for a model that this release cannot read.
    """

    def __init__(self, kinds: dict[str, Kind]) -> None:
        self._kinds = kinds
        self._kept: dict[str, Kept] = {}
        self._open: OpenJournal | None = None
        self._unnamed: list[Keeper] = []
        self._saves = 0
        self.learners: dict[str, Learner] = {}

    def keep_in(self, journals: OpenJournal | None) -> None:
        """Say where journals are; to be said before `make` and `load`."""
        self._open = journals

    def make(self, *, seed: int, lane: int, people_max: int) -> None:
        """Make models that have seen nothing."""
        for name, kind in self._kinds.items():
            self.learners[name] = kind.make(seed=seed, lane=lane, people_max=people_max)
            self._shelve(name, lane)

    def _shelve(self, name: str, lane: int) -> None:
        model = self.learners[name]
        if self._open is not None and isinstance(model, DeliveryTimeModel):
            self._kept[name] = Kept(Shelf(model))
            self._kept[name].keep_in(self._open)
            self._kept[name].keep_as(f"timing-{lane:03d}-{name}")

    def dump(self) -> dict[str, Any]:
        """All models; of those in a journal, how far it counts.

        State: files of models that settings name no more go once a state without them is durable.
        """
        self._saves += 1
        if self._saves > 1:
            for journal in self._unnamed:
                journal.remove()
            self._unnamed = []
        return {
            name: self._kept[name].dump() if name in self._kept else learner.dump()
            for name, learner in self.learners.items()
        }

    def load(self, dumped: dict[str, Any], *, lane: int) -> None:
        """Take back what `dump` gave; a model that settings name now and did not then is new."""
        for name, part in dumped.items():
            if name not in self._kinds:
                if self._open is not None and not isinstance(part, bytes):
                    self._unnamed.append(self._open(part["journal"][0]))
                continue
            try:
                self._load(name, part, lane)
            except UnreadableStateError as err:
                raise unreadable(f"model {name}: {err}") from None

    def _load(self, name: str, part: Any, lane: int) -> None:
        model = self.learners[name]
        if isinstance(part, bytes):
            self.learners[name] = self._kinds[name].load(part)
            self._shelve(name, lane)
        elif isinstance(model, DeliveryTimeModel):
            self._kept[name] = Kept(Shelf(model))
            self._kept[name].keep_in(self._open)
            self._kept[name].load(part)
        else:
            raise UnreadableStateError("people", "a journal", "a model of this kind's own")
