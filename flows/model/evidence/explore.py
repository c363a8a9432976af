"""How much exploration the evidence is still worth."""

from __future__ import annotations

from typing import NamedTuple

from flows.model.evidence.compare import State


class Exploration(NamedTuple):
    """The share of picks to draw evenly, and why, in a word that is logged with each decision."""

    share: float
    reason: str


def exploration(
    asked: float, *, floor: float, state: State, slots_differ: bool, clusters_exist: bool
) -> Exploration:
    """What is asked for, or the floor once a delivery time is known not to matter.

    The floor is paid for ever, so that a change of the world is noticed. It is not enough that
    the optimised arm gains nothing over the holdout: while slots differ or people differ in their
    hours, there is something to be found that the model has not found yet.

    >>> known = {"floor": 0.01, "slots_differ": False, "clusters_exist": False}
    >>> exploration(0.1, state=State.NULL_ACCEPTED, **known)
    Exploration(share=0.01, reason='null_accepted')
    >>> exploration(0.1, state=State.COLLECTING, **known)
    Exploration(share=0.1, reason='collecting')
    """
    if state is not State.NULL_ACCEPTED:
        return Exploration(asked, state.value)
    if slots_differ:
        return Exploration(asked, "slots_differ")
    if clusters_exist:
        return Exploration(asked, "clusters_exist")
    return Exploration(min(asked, floor), state.value)
