"""Check whether the software is what this release was made for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from flows.doctor.finding import Finding, fail, not_checked, ok

NAMES: Final = ("python", "libraries", "time_zones")

_PACKAGE: Final = "airside"
_ZONES_MIN: Final = 400  # the database has had more than this since 1996
_ZONES: Final = ("Europe/Oslo", "America/St_Johns", "Asia/Kathmandu", "Pacific/Kiritimati")
_NEED: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(?P<range>[^;]*)(?P<marker>;.*)?")
_BOUND: Final = re.compile(r"(==|>=|<=|<|>)\s*([0-9][0-9.]*)")
_INSTALL: Final = "install it from the lock: `just setup`, or the container image of this release"


def check_software() -> list[Finding]:
    """The interpreter, the libraries and the time zones, against what this release names."""
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError:
        why = "Airside is not installed as a package here"
        return [*not_checked(NAMES[:2], why), check_zones()]
    python = ".".join(map(str, sys.version_info[:3]))
    return [
        check_python(python, package.metadata["Requires-Python"] or ""),
        check_libraries(package.requires or []),
        check_zones(),
    ]


def check_python(found: str, wanted: str) -> Finding:
    """Check whether the engine has wheels for this interpreter."""
    if fits(found, wanted):
        return ok("python", f"Python {found}")
    return fail("python", f"Python {found}; expected {wanted}", "use a Python in that range")


def check_libraries(needs: list[str], installed: Callable[[str], str] = version) -> Finding:
    """Check whether every library is there, in a version that this release names."""
    faults = []
    count = 0
    for need in needs:
        parts = _NEED.match(need)
        if parts is None or "extra" in (parts["marker"] or ""):
            continue
        count += 1
        try:
            found = installed(parts["name"])
        except PackageNotFoundError:
            faults.append(f"no {parts['name']}")
            continue
        if not fits(found, parts["range"]):
            faults.append(f"{parts['name']} {found}, expected {parts['range'].strip()}")
    if faults:
        return fail("libraries", "; ".join(faults), _INSTALL)
    return ok("libraries", f"{count} libraries, all in range")


def check_zones(names: Callable[[], set[str]] = available_timezones) -> Finding:
    """Check whether there is a time zone database: profiles name zones."""
    found = names()
    try:
        for zone in _ZONES:
            ZoneInfo(zone)
    except ZoneInfoNotFoundError:
        found = set()
    if len(found) < _ZONES_MIN:
        return fail(
            "time_zones",
            f"{len(found)} zones",
            f"expected at least {_ZONES_MIN}; install the package tzdata, or the system's",
        )
    return ok("time_zones", f"{len(found)} zones")


def fits(found: str, wanted: str) -> bool:
    """Tell whether a release lies in a range as pyproject.toml writes it.

    >>> fits("3.11.7", "<3.13,>=3.11"), fits("3.13.0", "<3.13,>=3.11"), fits("0.21.1", "==0.21.1")
    (True, False, True)
    """
    have = _numbers(found)
    for sign, text in _BOUND.findall(wanted):
        bound = _numbers(text)
        width = max(len(have), len(bound))
        left, right = (part + (0,) * (width - len(part)) for part in (have, bound))
        holds = {
            "==": left == right,
            ">=": left >= right,
            "<=": left <= right,
            "<": left < right,
            ">": left > right,
        }
        if not holds[sign]:
            return False
    return True


def _numbers(text: str) -> tuple[int, ...]:
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    return tuple(map(int, release[0].split("."))) if release else ()
