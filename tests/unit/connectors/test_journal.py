"""Journals: what was saved is read again, what was not is gone, and damage is told."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.journal import Journal, Mark
from schemas.errors import PermanentError, TransientError

WHOLE = b"w" * 100


def whole() -> bytes:
    return WHOLE


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(folder: Path, mark: Mark) -> list[bytes]:
    return list(Journal(folder, mark[0]).read(mark))


def test_the_whole_comes_first_and_then_what_changed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gate-001")
    marks = [journal.save(changed, whole) for changed in (b"", b"first", b"", b"second")]

    assert marks[1] == marks[2]
    assert [WHOLE, b"first", b"second"] == read(tmp_path, marks[3])
    assert [WHOLE, b"first"] == read(tmp_path, marks[2])
    assert [WHOLE] == read(tmp_path, marks[0])


def test_what_lies_behind_the_mark_never_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gate-001")
    mark = journal.save(b"", whole)
    journal.save(b"of an epoch that was lost", whole)
    journal.close()

    again = Journal(tmp_path, "gate-001")
    assert [WHOLE] == list(again.read(mark))
    mark = again.save(b"instead", whole)
    assert [WHOLE, b"instead"] == read(tmp_path, mark)


def test_changes_that_outgrow_the_whole_begin_a_new_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gate-001")
    old = journal.save(b"", whole)
    new = journal.save(b"c" * (2 << 20), whole)

    assert (1, 2) == (old[1], new[1])
    assert [WHOLE] == read(tmp_path, new)


def test_a_file_stays_until_the_epoch_that_replaced_it_is_durable(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gate-001")
    journal.save(b"", whole)
    mark = journal.save(b"first", whole)
    journal.save(b"c" * (2 << 20), whole)
    assert ["gate-001.00000001.journal", "gate-001.00000002.journal"] == files(tmp_path)

    lost = Journal(tmp_path, "gate-001")
    assert [WHOLE, b"first"] == list(lost.read(mark))
    assert 3 == lost.save(b"c" * (2 << 20), whole)[1]
    assert ["gate-001.00000001.journal", "gate-001.00000003.journal"] == files(tmp_path)
    lost.save(b"", whole)
    assert ["gate-001.00000003.journal"] == files(tmp_path)


def test_journals_leave_each_other_alone(tmp_path: Path) -> None:
    names = ["gate-001", "gate-0011", "timing-001"]
    marks = [Journal(tmp_path, name).save(b"", name.encode) for name in names]

    for name, mark in zip(names, marks, strict=True):
        journal = Journal(tmp_path, name)
        assert [name.encode()] == list(journal.read(mark))
        journal.save(b"", name.encode)
    assert [f"{name}.00000001.journal" for name in sorted(names)] == files(tmp_path)


def test_files_of_a_state_that_was_given_up_are_not_gone_on_from(tmp_path: Path) -> None:
    """A start without a mark: an empty recovery store, or a state from before there were any."""
    Journal(tmp_path, "gate-001").save(b"", lambda: b"other")

    journal = Journal(tmp_path, "gate-001")
    assert ("gate-001", 2) == journal.save(b"", whole)[:2]
    journal.save(b"", whole)
    assert ["gate-001.00000002.journal"] == files(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda path: path.unlink(), "no file"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), "less than was saved"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "not what was written"),
        (lambda path: path.write_bytes(b"\xff" * path.stat().st_size), "a chunk that is cut"),
    ],
)
def test_damage_is_told_before_anything_is_read_past_it(
    tmp_path: Path, spoil: object, found: str
) -> None:
    journal = Journal(tmp_path, "gate-001")
    journal.save(b"", whole)
    mark = journal.save(b"changed", whole)
    assert callable(spoil)
    spoil(tmp_path / "gate-001.00000001.journal")

    with pytest.raises(PermanentError, match=f"could not resume journal .*{found}"):
        read(tmp_path, mark)


def test_a_check_reads_all_and_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gate-001")
    journal.save(b"", whole)
    mark = journal.save(b"first", whole)
    journal.save(b"second", whole)
    path = tmp_path / "gate-001.00000001.journal"
    before = path.read_bytes()

    Journal(tmp_path, "gate-001").check(mark)
    assert before == path.read_bytes()
    path.write_bytes(before.replace(b"first", b"fir?t"))
    with pytest.raises(PermanentError, match="not what was written"):
        Journal(tmp_path, "gate-001").check(mark)


def test_a_journal_can_be_removed_as_a_whole(tmp_path: Path) -> None:
    Journal(tmp_path, "gate-001").save(b"", whole)
    Journal(tmp_path, "gate-002").save(b"", whole)

    Journal(tmp_path, "gate-001").remove()

    assert ["gate-002.00000001.journal"] == files(tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "journals").write_bytes(b"a file")

    with pytest.raises(TransientError, match="could not write journal"):
        Journal(tmp_path / "journals", "gate-001").save(b"", whole)


@given(st.lists(st.tuples(st.binary(max_size=40), st.booleans()), max_size=12))
def test_any_history_with_lost_epochs_reads_as_what_was_durable(
    tmp_path_factory: pytest.TempPathFactory, epochs: list[tuple[bytes, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("journals")
    journal = Journal(folder, "x")
    state: list[bytes] = [b"begin"]
    mark = journal.save(b"", lambda: b"begin")
    for changed, is_durable in epochs:
        made = [*state, changed] if changed else state
        found = journal.save(changed, partial(b"".join, made))
        if is_durable:
            state, mark = made, found
        else:
            journal.close()
            journal = Journal(folder, "x")
            assert b"".join(state) == b"".join(journal.read(mark))
    assert b"".join(state) == b"".join(read(folder, mark))
