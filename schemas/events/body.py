"""What every event body has, and how a body says that exactly one of several fields is given."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from schemas.events.fields import Identifier, Label, Pseudonym

EXACTLY_ONE: Final = "exactly_one"


def _exactly_one_rule(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Write the rule into the contract: JSON Schema counts null as given, we do not."""
    names: tuple[str, ...] = getattr(model, "exactly_one_of", ())
    if names:
        schema["oneOf"] = [
            {"properties": {name: {"not": {"type": "null"}}}, "required": [name]} for name in names
        ]


class Strict(BaseModel):
    """A part of a body: strict types, unknown fields ignored, values never shown in errors."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        json_schema_extra=_exactly_one_rule,
    )

    exactly_one_of: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _check_exactly_one(self) -> Self:
        names = self.exactly_one_of
        if names and sum(getattr(self, name) is not None for name in names) != 1:
            raise PydanticCustomError(EXACTLY_ONE, "expected exactly one of the alternatives")
        return self


class EventBody(Strict):
    """The fields that place an event: which journey, which notification, whose campaign.

    `subject` is absent for events about an audience, which is not resolved to people yet.
    """

    journey_id: Identifier
    notification_id: Identifier
    campaign: Label
    tenant: Label
    subject: Pseudonym | None = None
