"""Here everything is read by column, however little it is: that is what is compared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from schemas import few


@pytest.fixture(scope="module", autouse=True)
def by_column() -> Iterator[None]:
    """Few messages go by column, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few, "MANY", 1)
        yield
