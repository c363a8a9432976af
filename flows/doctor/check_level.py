"""Check which level reads and writes Kafka, and why that one."""

from __future__ import annotations

from typing import Final

from connectors.native.level import choose_level
from flows.doctor.finding import Finding, of_error, ok
from flows.settings import Settings
from schemas.errors import ConfigError

NAMES: Final = ("kafka_level",)


def check_level(settings: Settings) -> list[Finding]:
    """The level that a start would choose."""
    try:
        level = choose_level(settings.kafka.level)
    except ConfigError as err:
        return [of_error(NAMES[0], err)]
    return [ok(NAMES[0], f"{level.name}: {level.why}")]
