"""Here everything is read by column, however little it is: that is what is compared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flows.steps import slots
from schemas import few


@pytest.fixture(scope="module", autouse=True)
def by_column() -> Iterator[None]:
    """Few messages go by column, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few, "MANY", 1)
        patch.setattr(slots, "_MANY", 1)
        patch.setattr(slots, "_REST", 0)
        yield
