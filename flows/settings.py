"""All settings: read once from the environment (prefix AIRSIDE_), frozen, passed on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from connectors.clickhouse.client import ClickHouseAddress
from schemas.errors import ConfigError

PREFIX: Final = "AIRSIDE_"
TICKET_KEY_BYTES_MIN: Final = 16
_WAIT_S_MIN: Final = 5.0


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KafkaSettings(_Group):
    """Where Kafka is, and how much of it may be held at once."""

    bootstrap_servers: str
    # host:port, several joined by commas.
    connect_tries: int = Field(5, ge=1, le=100)
    # tries of 5 s each before a start is given up.
    queue_kbytes_max: int = Field(16_384, ge=1_024, le=1_048_576)
    # kibibytes that one lane may fetch ahead.
    delivery_s_max: float = Field(120.0, gt=0, le=3_600)
    # seconds that one record, or one step of a transaction, may wait for the broker before the
    # worker stops.
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    # exactly_once: routed records appear at the end of their epoch, once; needs Apache Kafka.
    # at_least_once: they appear at once, and may repeat after a crash.
    transaction_s_max: float = Field(900.0, gt=1, le=90_000)
    # seconds that one epoch's transaction may stay open: at least two epochs and the wait for
    # ClickHouse, at most the broker's transaction.max.timeout.ms.
    replication: int = Field(1, ge=1, le=9)
    # copies of each topic that `airside topics apply` creates.
    level: Literal["auto", "pure", "native"] = "auto"
    # who reads, writes and sweeps: Python alone, or the native library; auto takes it where it is
    # built and works, see docs/native.md.
    extra: dict[str, str] = {}
    # further librdkafka settings as JSON, for one {"security.protocol": "SASL_SSL"}.


class ClickHouseSettings(_Group):
    """Where ClickHouse is, and how long a worker waits for it."""

    url: str
    # http://host:port.
    database: str = Field("airside", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")
    # made by `airside migrate`.
    user: str = "default"
    # name of the writing user.
    password: SecretStr = SecretStr("")
    # its password.
    rows_max: int = Field(5_000, ge=1, le=1_000_000)
    # rows collected for one insert before the epoch ends.
    retry_s_max: float = Field(600.0, ge=0, le=86_400)
    # seconds of back-pressure before a worker gives up and stops.


class TimeSettings(_Group):
    """How time is judged."""

    skew_s_max: float = Field(300.0, ge=0, le=86_400)
    # seconds that an event may lie in the future of its record.
    lateness_s_max: float = Field(86_400.0, ge=60, le=31_536_000)
    # seconds behind its partition's newest event that still correct a rollup; older is late.
    duplicate_s_max: float = Field(3_600.0, ge=600, le=31_536_000)
    # seconds of event time for which an accepted event is remembered.
    duplicates_max: int = Field(2_000_000, ge=1_000, le=100_000_000)
    # events remembered in one lane at the most.
    rollup_cells_max: int = Field(1_000_000, ge=1_000, le=16_000_000)
    # rollup cells that late events may still correct in one lane, about 500 bytes each; one more
    # stops the worker, since leaving it out would be silent.
    quiet_s: float = Field(5.0, gt=0, le=3_600)
    # seconds without a message after which a read-up partition stops holding others back.
    ahead_s_max: float = Field(300.0, gt=0, le=31_536_000)
    # seconds of record time that one partition may be read ahead of the slowest.


class LimitSettings(_Group):
    """How much may be quarantined before the worker stops."""

    run_max: int = Field(10_000, ge=1, le=1_000_000_000)
    # messages of one partition in a row.
    share_max: float = Field(0.5, gt=0, le=1)
    # share of a lane's last messages; 1 allows all of them.
    window: int = Field(20_000, ge=10, le=1_000_000)
    # messages of a lane that the share is taken of.


class TimingSettings(_Group):
    """How delivery times are chosen, and what is learned from."""

    quiet_from: int = Field(22, ge=0, le=23)
    # first quiet hour of the day on the person's clock.
    quiet_until: int = Field(8, ge=0, le=23)
    # first hour after the quiet ones; equal to the first quiet hour for none.
    horizon_h: int = Field(72, ge=1, le=168)
    # hours that a time may lie ahead where the request sets no earlier deadline.
    cap_a_day: int = Field(3, ge=1, le=32)
    # messages that a person may get in any 24 hours.
    cap_a_channel_day: int = Field(2, ge=1, le=32)
    # of them by one channel.
    gap_s: float = Field(3_600.0, ge=0, le=86_400)
    # seconds between two messages to a person at the least.
    now_priorities: tuple[str, ...] = ("high", "critical")
    # priorities that are sent at once, as JSON.
    now_purposes: tuple[str, ...] = ("security", "transactional_notice")
    # purposes that are sent at once, as JSON.
    window_s: float = Field(86_400.0, ge=60, le=2_592_000)
    # seconds after sending in which a response counts, where the request's goal names no window.
    window_s_max: float = Field(604_800.0, ge=60, le=2_592_000)
    # seconds that the window of a goal may be long.
    correct_s: float = Field(86_400.0, ge=0, le=2_592_000)
    # seconds after the window in which a response that came late corrects a negative.
    kept_s: float = Field(1_800.0, ge=1, le=86_400)
    # seconds from its decided time in which a message must be sent for its outcome to be compared.
    responses: tuple[str, ...] = (
        "ntf.engagement.opened.v1",
        "ntf.engagement.clicked.v1",
        "ntf.engagement.cta.v1",
        "ntf.engagement.replied.v1",
    )
    # event types of people that are responses, as JSON; machines never respond.
    goals: dict[str, tuple[str, ...]] = {}
    # other responses by the metric of a request's goal, for one {"clicks": ["ntf.…clicked.v1"]}.
    holdout_share: float = Field(0.05, ge=0, le=0.5)
    # share of people whose time is drawn evenly, for ever.
    holdout_key: SecretStr | None = None
    # key that says who they are, 16 bytes or more; one that everyone can read when not set.
    interest: float = Field(0.01, gt=0, lt=1)
    # smallest difference of response rates that matters.
    alpha: float = Field(0.05, gt=0, lt=0.5)
    # chance of one wrong verdict, ever.
    explore_min: float = Field(0.02, gt=0, le=1)
    # share of times drawn evenly once it is known that the time does not matter.
    model: str = Field("latent_class", pattern=r"^[a-z_]{1,32}$")
    # model that chooses, where policies name no other.
    policies: dict[str, str] = {}
    # models of campaigns, for one {"spring": "linucb"}.
    seed: int = Field(0, ge=0, le=2_147_483_647)
    # of the draws; fixed once decisions are compared.
    people_max: int = Field(50_000, ge=100, le=10_000_000)
    # people of a lane that are remembered, about 1 kB each; who was seen longest ago goes first.
    journeys_max: int = Field(200_000, ge=100, le=10_000_000)
    # messages of a lane whose outcome is not final; the oldest count nowhere beyond that.
    publish_s: float = Field(60.0, ge=1, le=86_400)
    # seconds of event time between two publications of a lane's sums.
    results_s: float = Field(300.0, ge=1, le=86_400)
    # seconds of event time between two verdicts.

    @field_validator("holdout_key")
    @classmethod
    def _check_holdout_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value().encode()) < TICKET_KEY_BYTES_MIN:
            msg = f"found a shorter key; expected {TICKET_KEY_BYTES_MIN} bytes or more, or none"
            raise ValueError(msg)
        return key


class JourneySettings(_Group):
    """How long journeys are followed, and what their results are put down to."""

    timeout_s: float = Field(259_200.0, ge=60, le=31_536_000)
    # seconds of event time without an event after which a journey without an end times out.
    forget_s: float = Field(604_800.0, ge=60, le=31_536_000)
    # seconds of event time without an event after which a journey is over: an event after that
    # changes no row. A worker keeps it for AIRSIDE_TIME__LATENESS_S_MAX more.
    tombstone_s: float = Field(2_592_000.0, ge=60, le=315_360_000)
    # seconds for which a forgotten journey is known as such.
    journeys_max: int = Field(1_000_000, ge=100, le=100_000_000)
    # journeys of one lane, about 600 bytes each; for one more, the longest silent are forgotten.
    acts_max: int = Field(64, ge=8, le=10_000)
    # events of one journey in `acts`; the earliest ones stay.
    window_s: float = Field(604_800.0, ge=60, le=31_536_000)
    # seconds between a touch and a result that may be put down to it.
    touches_max: int = Field(64, ge=1, le=10_000)
    # journeys that touched one person within the window; the latest ones stay.
    outcomes_max: int = Field(64, ge=1, le=10_000)
    # results of one person that late touches may still correct; the latest ones stay.


class MoneySettings(_Group):
    """What messages cost, and in which money results are told."""

    currency: str = Field("EUR", pattern=r"^[A-Z]{3}$")
    # ISO 4217; metrics of money count amounts in it, and no others.
    costs: dict[str, float] = {}
    # of one sent message by channel, in minor units of that currency, as JSON: {"sms": 4.5}.


class IncrementSettings(_Group):
    """What counts as a difference to the holdout: set before one looks, and left alone then."""

    conversions_per_1k: float = Field(10.0, gt=0, le=1_000)
    # smallest difference that matters, in conversions per 1,000 notifications.
    revenue_per_1k: float = Field(50_000.0, gt=0)
    # the same in minor units of the currency.
    alpha: float = Field(0.05, gt=0, lt=0.5)
    # chance of one wrong verdict of each figure, ever.


class Settings(BaseSettings):
    """Everything a dataflow is told. Errors come from `read_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    kafka: KafkaSettings
    clickhouse: ClickHouseSettings
    time: TimeSettings = TimeSettings()  # type: ignore[call-arg] # all have defaults
    limit: LimitSettings = LimitSettings()  # type: ignore[call-arg] # all have defaults
    timing: TimingSettings = TimingSettings()  # type: ignore[call-arg] # all have defaults
    journey: JourneySettings = JourneySettings()  # type: ignore[call-arg] # all have defaults
    money: MoneySettings = MoneySettings()  # type: ignore[call-arg] # all have defaults
    increment: IncrementSettings = IncrementSettings()  # type: ignore[call-arg] # all have defaults
    policy: Path | None = None
    # the policy file; the one that comes with Airside when not set.
    process: Path | None = None
    # the process that journeys are compared with; the one that comes with Airside when not set.
    data: Path = Path(".airside")
    # folder of recovery stores and of the embedded stack.
    node: str = Field("a1", pattern=r"^[a-z0-9_-]{1,16}$")
    # name of this installation in hop histories and transactions; fixed once there is state.
    lanes: int = Field(4, ge=1, le=1_024)
    # shares of the partitions; fixed once there is state.
    epoch_s: float = Field(5.0, ge=0.1, le=600)
    # seconds between durable points.
    watchdog_s: float = Field(300.0, ge=1, le=86_400)
    # seconds without a durable point after which a process ends itself, unless it waits for
    # ClickHouse; more than twice what a record may wait for the broker.
    drain_s_max: float = Field(120.0, ge=1, le=3_600)
    # seconds that a cell has to end when told to; half of them may go into waiting for ClickHouse.
    restarts_max: int = Field(20, ge=0, le=1_000_000)
    # starts of cells after failures in ten minutes before a supervisor gives up.
    restart_pause_s_max: float = Field(30.0, ge=0.1, le=600)
    # seconds that a cell waits at the most before its next start; the first wait is half a second.
    block_messages_max: int = Field(5_000, ge=1, le=100_000)
    # messages that all lanes of a process take up at once; a lane has its share, or 500.
    epoch_messages_max: int = Field(250_000, ge=1_000, le=100_000_000)
    # messages that all lanes of a process take up in one epoch: bounds memory in a backlog. What
    # is left of the epoch is waited for, so fewer need a shorter one.
    body_bytes_max: int = Field(1_048_576, ge=1, le=4_194_304)
    # bytes of a body; a larger one is refused. With its headers it must fit the output topics.
    metrics_port: int = Field(0, ge=0, le=65_535)
    # loopback port of /metrics; 0 serves none.
    ticket_key: SecretStr | None = None
    # key of the tickets' signatures, 16 bytes or more; when set, every ticket must carry one.
    quarantine_key: SecretStr | None = None
    # 32 bytes in base64 that seal refused bodies; when not set, those are not kept.
    crash_at: str = ""
    # crash point of a test, see connectors/crash.py; never set it in production.
    log: str = Field("auto", pattern=r"^(auto|json|text)$")
    # form of the log: text on a terminal, else JSON.

    @field_validator("ticket_key")
    @classmethod
    def _check_ticket_key(cls, key: SecretStr | None) -> SecretStr | None:
        """An empty key would turn signatures off without a word."""
        if key is not None and len(key.get_secret_value().encode()) < TICKET_KEY_BYTES_MIN:
            msg = f"found a shorter key; expected {TICKET_KEY_BYTES_MIN} bytes or more, or none"
            raise ValueError(msg)
        return key

    @property
    def clickhouse_address(self) -> ClickHouseAddress:
        """Where ClickHouse is, in the connector's form."""
        part = self.clickhouse
        return ClickHouseAddress(
            part.url, part.database, part.user, part.password.get_secret_value()
        )

    @property
    def wait_s_max(self) -> float:
        """Seconds that an epoch may wait for rows of its own and of the one before it, together.

        A transaction is open meanwhile: its bound less two epochs, as `_check_transaction` has it.
        """
        if self.kafka.delivery == "at_least_once":
            return float("inf")
        return max(self.kafka.transaction_s_max - 2 * self.epoch_s, _WAIT_S_MIN)


def read_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings from the environment; `overrides` win, nested as the fields are.

    Errors: ConfigError that names each variable that is missing, unknown or out of bounds.
    """
    unknown = sorted(set(_given()) - set(variables()))
    if unknown:
        raise ConfigError(
            do="read",
            kind="settings",
            found=f"unknown {', '.join(unknown)}",
            expected="names of infra/env.reference",
            hint="correct or unset them",
        )
    try:
        settings = Settings(**(overrides or {}))
    except SettingsError:
        # Its text says no more, and quotes nothing; values in JSON are mappings and lists.
        raise _misfit(
            [f"{name}: no JSON" for name in _given() if variables()[name][:1] in ("{", "[")]
        ) from None
    except ValidationError as err:
        faults = [
            f"{PREFIX}{'__'.join(str(part).upper() for part in fault['loc'])}: "
            + ("missing" if fault["type"] == "missing" else fault["msg"])
            for fault in err.errors(include_input=False, include_url=False)
        ]
        raise _misfit(faults) from None
    _check_transaction(settings)
    return settings


def _misfit(faults: Sequence[str]) -> ConfigError:
    return ConfigError(
        do="read",
        kind="settings",
        found="; ".join(faults),
        hint="set them as in infra/env.reference, or run on the embedded stack: "
        "`airside up` prints the lines to add",
    )


def _check_transaction(settings: Settings) -> None:
    """Make sure that a transaction outlives the longest epoch: one that waits for ClickHouse."""
    kafka, retry_s = settings.kafka, settings.clickhouse.retry_s_max
    least_s = retry_s + 2 * settings.epoch_s
    if kafka.delivery == "exactly_once" and kafka.transaction_s_max < least_s:
        raise ConfigError(
            do="use",
            kind="setting",
            name="AIRSIDE_KAFKA__TRANSACTION_S_MAX",
            found=f"{kafka.transaction_s_max:g} s",
            expected=f"at least {least_s:g} s: AIRSIDE_CLICKHOUSE__RETRY_S_MAX and two of "
            "AIRSIDE_EPOCH_S, since an epoch that waits for ClickHouse keeps its transaction open",
            hint="raise it, or lower those two",
        )


def _given() -> list[str]:
    return [name for name in os.environ if name.startswith(PREFIX)]


def variables() -> dict[str, str]:
    """Every variable that is read, with its default as text; empty for required ones."""
    found: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, _Group):
            for part, inner in group.model_fields.items():
                found[f"{PREFIX}{name}__{part}".upper()] = _default_text(inner)
        else:
            found[f"{PREFIX}{name}".upper()] = _default_text(field)
    return found


def _default_text(field: Any) -> str:
    default = field.default
    if field.is_required() or default is None or isinstance(default, SecretStr):
        return ""
    return json.dumps(default) if isinstance(default, dict | tuple) else str(default)


def given_variables() -> dict[str, str]:
    """Our variables as they are set, for a child process that has to be told the same."""
    return {name: os.environ[name] for name in _given()}


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Our environment for a child process, without our variables but for these changes."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    return {**kept, **changes}
