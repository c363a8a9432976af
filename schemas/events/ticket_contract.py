"""The ticket as a published contract: header names as properties, all values strings.

This is what producers are told. `schemas.ticket_reader` is what runs, and takes a little more:
short header names, letters of either case in the content type, spaces in lists. Whether a class
or purpose exists is the policy's matter, so the contract states forms, not vocabularies.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from schemas.events.fields import Instant

# Classes of rank 3 and above: whose they are and what they hold must be stated.
ABOUT_PEOPLE: Final = r"(^|,)(PII|GDPR|PCI|PHI|SPECIAL)(,|$)"
_STATED: Final = ["ce_subject", "ce_datacategory"]

EventId = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9_-]{8,64}$")]
Reference = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
Place = Annotated[
    str, StringConstraints(max_length=128, pattern=r"^[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]{1,128}$")
]
TypeName = Annotated[
    str, StringConstraints(max_length=80, pattern=r"^[a-z]+(\.[a-z_]+)+\.v[1-9][0-9]*$")
]
Words = Annotated[
    str, StringConstraints(max_length=256, pattern=r"^[A-Za-z0-9_-]{1,40}(,[A-Za-z0-9_-]{1,40})*$")
]
Classes = Annotated[
    str, StringConstraints(max_length=128, pattern=r"^[A-Z][A-Z0-9_-]{0,39}(,[A-Z][A-Z0-9_-]*)*$")
]
Hops = Annotated[
    str,
    StringConstraints(
        max_length=256,
        pattern=r"^[a-z]{2}\.[a-z0-9_-]{1,16}\.[0-9A-Z]{1,11}[a-z]{0,9}"
        r"(>(~[1-9][0-9]*|[a-z]{2}\.[a-z0-9_-]{1,16}\.[0-9A-Z]{1,11}[a-z]{0,9}))*$",
    ),
]


def _people_rule(schema: dict[str, Any]) -> None:
    """Write what the model checks by itself; the empty text that stands for absent is ours."""
    for part in schema["properties"].values():
        part.pop("default", None)
    schema["if"] = {
        "properties": {"ce_dataclassification": {"pattern": ABOUT_PEOPLE}},
        "required": ["ce_dataclassification"],
    }
    schema["then"] = {"required": _STATED}


class TicketContract(BaseModel):
    """The headers of a message; unknown ones are kept as they are, a repeated one is refused.

    Units: at most 1,024 bytes for all ticket headers together, names included.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        json_schema_extra=_people_rule,
    )

    ce_specversion: Annotated[str, StringConstraints(max_length=3, pattern=r"^1\.0$")]
    ce_id: EventId
    ce_source: Place
    ce_type: TypeName
    ce_time: Instant
    content_type: Annotated[
        str,
        StringConstraints(max_length=40, pattern=r"^application/json( ?; ?charset=utf-8)?$"),
        Field(alias="content-type"),
    ]
    ce_datapurpose: Reference
    ce_dataclassification: Classes
    ce_correlationid: Reference
    ce_subject: Reference = ""
    ce_datacategory: Words = ""
    ce_datapolicy: Annotated[str, StringConstraints(max_length=9, pattern=r"^[1-9][0-9]{0,8}$")] = (
        ""
    )
    ce_datahops: Hops = ""
    ce_causationid: Reference = ""
    ce_dataregulation: Words = ""
    ce_dataschema: Place = ""
    ce_recordedtime: Instant = ""
    ce_expirytime: Instant = ""
    ce_ticketmac: Annotated[
        str, StringConstraints(max_length=16, pattern=r"^[A-Za-z0-9_-]{16}$")
    ] = ""
    traceparent: Annotated[
        str,
        StringConstraints(max_length=55, pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"),
    ] = ""
    tracestate: Annotated[str, StringConstraints(max_length=512)] = ""

    @model_validator(mode="after")
    def _check_people(self) -> Self:
        about_people = re.search(ABOUT_PEOPLE, self.ce_dataclassification)
        if about_people and not all(getattr(self, name) for name in _STATED):
            raise PydanticCustomError("people", "expected the subject and the data categories")
        return self
