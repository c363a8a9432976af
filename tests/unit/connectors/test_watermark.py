"""What is saved of a watermark."""

from __future__ import annotations

import pytest

from connectors.kafka.transaction_errors import not_restored
from connectors.kafka.watermark import dump_mark, load_mark
from schemas.errors import PermanentError


def test_a_saved_watermark_comes_back_and_is_a_copy() -> None:
    mark = {("t", 0): 3}
    saved = dump_mark(mark)
    mark[("t", 0)] = 4

    assert {("t", 0): 3} == load_mark(saved, 0)


def test_a_release_that_saved_none_is_followed_without() -> None:
    assert {} == load_mark(None, 0)


def test_a_watermark_of_a_later_release_is_refused() -> None:
    with pytest.raises(PermanentError, match="watermark of version 2"):
        load_mark({"version": 2, "next": {}}, 0)


def test_what_could_not_be_restored_is_named_up_to_a_bound() -> None:
    """Whoever mends it needs places; a line of hundreds would hide what to do."""
    few = str(not_restored(3, {("out", 1): 7}))
    many = str(not_restored(3, {("out", part): 7 for part in range(200)}))

    assert "in out/1 from offset 7;" in few
    assert "out/19 from offset 7 and 180 more;" in many
    assert "lost to readers" in few
