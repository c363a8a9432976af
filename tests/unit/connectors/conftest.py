"""The native library for tests of its parts."""

from __future__ import annotations

import os
from typing import Any

import pytest

from connectors.native.level import find_fault, load_native
from tests.services import REQUIRE_NATIVE


@pytest.fixture(scope="session")
def native() -> Any:
    """The library; skips with the reason where it is not built, unless CI demands it."""
    fault = find_fault()
    if fault is not None:
        go_without(fault)
    return load_native()


def go_without(fault: str) -> None:
    """Skip, or fail where CI demands the library."""
    if os.environ.get(REQUIRE_NATIVE) == "1":
        pytest.fail(f"{REQUIRE_NATIVE}=1, and {fault}", pytrace=False)
    pytest.skip(f"needs the native library: {fault}: run `just native`")
