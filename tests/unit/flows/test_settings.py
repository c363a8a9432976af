"""Settings: unknown names refused, secrets never shown, and the files about them true."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.settings import read_settings, variables
from schemas.errors import ConfigError

INFRA = Path(__file__).parents[3] / "infra"
REQUIRED = {
    "AIRSIDE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "AIRSIDE_CLICKHOUSE__URL": "http://127.0.0.1:8123",
}


def read_env(name: str) -> dict[str, str]:
    lines = (INFRA / name).read_text().splitlines()
    pairs = [line.lstrip("#").split("=", 1) for line in lines if "AIRSIDE_" in line and "=" in line]
    return {key.strip(): value for key, value in pairs}


def test_the_reference_names_every_variable_with_its_default() -> None:
    assert variables() | REQUIRED == read_env("env.reference")


def test_every_variable_of_the_reference_has_a_comment_above() -> None:
    lines = (INFRA / "env.reference").read_text().splitlines()
    for place, line in enumerate(lines):
        if "AIRSIDE_" in line and "=" in line:
            assert lines[place - 1].startswith("# "), line


def test_the_least_that_starts_is_what_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    least = read_env("env.minimal")
    assert REQUIRED == least
    for name, value in least.items():
        monkeypatch.setenv(name, value)

    assert "127.0.0.1:9092" == read_settings().kafka.bootstrap_servers


def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRSIDE_KAFKA__BOOTSTRAP", "x")

    with pytest.raises(ConfigError, match="unknown AIRSIDE_KAFKA__BOOTSTRAP"):
        read_settings()


def test_missing_and_wrong_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRSIDE_KAFKA__BOOTSTRAP_SERVERS", "x:1")
    monkeypatch.setenv("AIRSIDE_LANES", "0")

    with pytest.raises(ConfigError, match="AIRSIDE_CLICKHOUSE: missing") as caught:
        read_settings()
    assert "AIRSIDE_LANES" in str(caught.value)


def test_secrets_show_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    for name in ("CLICKHOUSE__PASSWORD", "TICKET_KEY", "QUARANTINE_KEY"):
        monkeypatch.setenv(f"AIRSIDE_{name}", "hunter2hunter2hunter2")
    settings = read_settings()

    assert "hunter2" not in repr(settings) + str(settings)
    monkeypatch.setenv("AIRSIDE_LANES", "hunter2")
    with pytest.raises(ConfigError) as caught:
        read_settings()
    assert "hunter2" not in str(caught.value)


def test_a_transaction_must_outlive_an_epoch_that_waits_for_clickhouse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the broker gives the transaction up, and the wait ends with a word about fencing."""
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRSIDE_CLICKHOUSE__RETRY_S_MAX", "50")
    monkeypatch.setenv("AIRSIDE_EPOCH_S", "6")
    monkeypatch.setenv("AIRSIDE_KAFKA__TRANSACTION_S_MAX", "61")

    with pytest.raises(ConfigError, match=r"found 61 s; expected at least 62 s"):
        read_settings()
    monkeypatch.setenv("AIRSIDE_KAFKA__DELIVERY", "at_least_once")
    assert 61 == read_settings().kafka.transaction_s_max
    monkeypatch.delenv("AIRSIDE_KAFKA__DELIVERY")
    monkeypatch.setenv("AIRSIDE_KAFKA__TRANSACTION_S_MAX", "62")
    assert 62 == read_settings().kafka.transaction_s_max


@pytest.mark.parametrize("key", ["", "k", "fifteen bytes .", "sieben \u00e4\u00e4\u00e4."])
def test_a_short_ticket_key_is_refused_and_never_means_none(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRSIDE_TICKET_KEY", key)

    with pytest.raises(ConfigError, match=r"AIRSIDE_TICKET_KEY: .*16 bytes or more"):
        read_settings()
    monkeypatch.setenv("AIRSIDE_TICKET_KEY", "\u00e4" * 8)
    assert read_settings().ticket_key is not None
