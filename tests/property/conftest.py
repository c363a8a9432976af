"""Here everything is read by column, however little it is: that is what is compared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from schemas import columns, ticket_reader


@pytest.fixture(scope="module", autouse=True)
def by_column() -> Iterator[None]:
    """Few messages of a layout and few times go by column, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ticket_reader, "GROUP_MIN", 1)
        patch.setattr(columns, "MANY", 1)
        yield
