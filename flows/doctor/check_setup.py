"""Check whether the settings, the policy and the keys can be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flows.doctor.finding import Finding, fail, not_checked, of_error, ok, warn
from flows.ingest import read_policy
from flows.settings import Settings
from flows.steps.seal import Sealer
from schemas.errors import AirsideError
from schemas.policy import Policy

NAMES: Final = ("settings", "policy", "quarantine_key")


def check_setup(
    read: Callable[[], Settings],
) -> tuple[list[Finding], Settings | None, Policy | None]:
    """Read settings and policy as a start does; gives them back where they can be read."""
    try:
        settings = read()
    except AirsideError as err:
        why = "the settings cannot be read"
        return [of_error("settings", err), *not_checked(NAMES[1:], why)], None, None
    verdict, policy = check_policy(settings)
    return [check_settings(settings), verdict, check_key(settings)], settings, policy


def check_settings(settings: Settings) -> Finding:
    """Check settings that are right by themselves against each other."""
    found = (
        f"Kafka {settings.kafka.bootstrap_servers}, ClickHouse {settings.clickhouse.url},"
        f" {settings.lanes} lanes, {settings.kafka.delivery}"
    )
    if settings.crash_at:
        do = "unset AIRSIDE_CRASH_AT: the flow would end itself on purpose"
        return warn("settings", "a crash point is set", do)
    if settings.watchdog_s <= 2 * settings.kafka.delivery_s_max:
        return warn(
            "settings",
            f"the watchdog ({settings.watchdog_s:.0f} s) does not wait for the two steps of a"
            f" commit (each {settings.kafka.delivery_s_max:.0f} s at the most)",
            "raise AIRSIDE_WATCHDOG_S above twice AIRSIDE_KAFKA__DELIVERY_S_MAX",
        )
    return ok("settings", found)


def check_policy(settings: Settings) -> tuple[Finding, Policy | None]:
    """Check whether the policy loads, and passes its own tests."""
    try:
        policy = read_policy(settings)
    except AirsideError as err:
        return of_error("policy", err), None
    faults = policy.check()
    if faults:
        more = f" and {len(faults) - 1} more" if faults[1:] else ""
        do = "correct the file until `airside policy check` is content"
        return fail("policy", faults[0] + more, do), policy
    return ok("policy", f"version {policy.version}, {len(policy.tests)} tests of its own"), policy


def check_key(settings: Settings) -> Finding:
    """Check whether refused messages can be sealed."""
    if settings.quarantine_key is None:
        return warn(
            "quarantine_key",
            "no key: refused messages are counted, but cannot be repaired",
            "draw one with `airside key`, keep it safe, and set AIRSIDE_QUARANTINE_KEY",
        )
    try:
        Sealer(settings.quarantine_key.get_secret_value())
    except AirsideError as err:
        return of_error("quarantine_key", err)
    return ok("quarantine_key", "a key of the right form")
