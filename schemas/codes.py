"""The closed list of refusal codes: what was wrong with a message, and by which door it leaves.

Source: the action of each code is in DESIGN section 2 and research/data section 1.5.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Door(StrEnum):
    """The four doors; every message leaves by exactly one."""

    ROUTED = "routed"
    QUARANTINED = "quarantined"
    DROPPED = "dropped"
    LATE = "late"


class Code(NamedTuple):
    """One refusal code; `door` is `Door.ROUTED` for warnings, which stop nothing."""

    door: Door
    meaning: str


CODES: Final[dict[str, Code]] = {
    "T101": Code(Door.QUARANTINED, "a required ticket header is missing"),
    "T102": Code(Door.QUARANTINED, "a ticket header is malformed, repeated or not UTF-8"),
    "T103": Code(Door.QUARANTINED, "the ticket or the body is larger than allowed"),
    "T104": Code(Door.QUARANTINED, "the event id is not 8 to 64 characters of A-Z a-z 0-9 _ -"),
    "T105": Code(Door.QUARANTINED, "a time is not RFC 3339, or too far in the future"),
    "T106": Code(Door.QUARANTINED, "the CloudEvents version is not 1.0"),
    "T107": Code(
        Door.QUARANTINED, "the message key is not the subject, or without one not the event id"
    ),
    "T201": Code(Door.QUARANTINED, "the purpose is not in the policy"),
    "T202": Code(Door.QUARANTINED, "a class is not in the policy"),
    "T203": Code(Door.QUARANTINED, "no rule allows this class for this purpose"),
    "T204": Code(Door.QUARANTINED, "a data category is not in the policy"),
    "T205": Code(Door.QUARANTINED, "the policy version is unknown or too old"),
    "T206": Code(Door.QUARANTINED, "the purpose is not compatible with its cause's purpose"),
    "T301": Code(Door.QUARANTINED, "the event type is unknown, or not one of this topic's"),
    "T302": Code(Door.QUARANTINED, "the body does not fit the event type's schema"),
    "T303": Code(Door.QUARANTINED, "the body is missing or is not JSON in UTF-8"),
    "T404": Code(Door.DROPPED, "the person has not consented to this purpose"),
    "T405": Code(
        Door.DROPPED, "the event had expired when recorded, or its retention when received"
    ),
    "T501": Code(Door.QUARANTINED, "the hop history is malformed"),
    "T502": Code(Door.QUARANTINED, "the hop history is too long or loops"),
    "T503": Code(Door.QUARANTINED, "the ticket's signature does not match or is missing"),
    "T504": Code(Door.ROUTED, "the clock went back between two hops"),
    "T601": Code(Door.LATE, "the event is older than late corrections reach"),
    "T602": Code(Door.DROPPED, "the same event was already accepted"),
    "T603": Code(Door.QUARANTINED, "another event with this id and source was already accepted"),
    "T604": Code(Door.ROUTED, "no profile is known for the subject"),
    "T606": Code(Door.DROPPED, "a tombstone: it deletes a profile and is not passed on"),
}
