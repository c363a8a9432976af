"""Who may run a flow, and with which stores."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from bytewax.recovery import init_db_dir

from connectors.recovery import read_store
from connectors.recovery_write import write_store
from flows.cells import (
    RECOVERY_PARTS,
    Cell,
    Home,
    Lease,
    Manifest,
    locked,
    opened_store,
    owned,
    replace_file,
    say_error,
)
from schemas.errors import AirsideError, ConfigError, TransientError

SHAPE = Manifest("ingest", 4, ("read", "write"), 2)


def write_empty(folder: Path) -> None:
    """What a crash may leave of a first start: a store in which nothing ever ran."""
    folder.mkdir(parents=True)
    init_db_dir(folder, RECOVERY_PARTS)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, "ingest")


def test_every_lane_has_one_cell() -> None:
    for cells in range(1, 9):
        lanes = sorted(lane for number in range(cells) for lane in Cell(number, cells).lanes(8))
        assert [*range(8)] == lanes


def test_each_owner_is_a_generation(home: Home) -> None:
    for generation in (1, 2):
        with owned(home, SHAPE) as manifest:
            assert generation == manifest.generation
            assert manifest == home.read_manifest()
            for number in range(2):
                cell = Cell(number, 2)
                with opened_store(home, cell, generation=generation):
                    assert any(home.store(cell).glob("part-*.sqlite3"))


def test_a_second_owner_is_refused(home: Home) -> None:
    with (
        owned(home, SHAPE),
        pytest.raises(ConfigError, match="another process using it"),
        owned(home, SHAPE),
    ):
        pass


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        (Manifest("ingest", 4, ("read", "write"), 3), "run `airside rescale ingest --cells 3`"),
        (Manifest("ingest", 8, ("read", "write"), 2), "found lanes 4; expected lanes 8"),
        (Manifest("ingest", 4, ("read", "send"), 2), "found steps read, write"),
    ],
)
def test_stores_of_another_shape_are_refused(home: Home, shape: Manifest, hint: str) -> None:
    with owned(home, SHAPE):
        pass
    with pytest.raises(ConfigError, match=hint), owned(home, shape):
        pass


@pytest.mark.parametrize(("cell", "generation"), [(Cell(0, 2), 9), (Cell(0, 3), 1)])
def test_a_cell_of_another_generation_does_not_start(
    home: Home, cell: Cell, generation: int
) -> None:
    with (
        owned(home, SHAPE),
        pytest.raises(ConfigError, match="found generation 1 of 2 cells"),
        opened_store(home, cell, generation=generation),
    ):
        pass


def test_a_store_that_is_gone_is_not_made_anew(home: Home) -> None:
    with owned(home, SHAPE):
        pass
    for part in home.store(Cell(1, 2)).glob("part-*"):
        part.unlink()
    with (
        owned(home, SHAPE) as manifest,
        pytest.raises(ConfigError, match="restore the folder from a backup"),
        opened_store(home, Cell(1, 2), generation=manifest.generation),
    ):
        pass


def test_a_crash_while_stores_are_made_leaves_nothing_that_counts(home: Home) -> None:
    write_empty(home.store(Cell(0, 2)))
    with (
        owned(home, SHAPE) as manifest,
        opened_store(home, Cell(1, 2), generation=manifest.generation),
    ):
        assert 1 == manifest.generation


def test_a_manifest_that_is_lost_takes_no_state_with_it(home: Home) -> None:
    kept = home.store(Cell(0, 1))
    write_store(kept, {("ingest.pass_gate", "000"): pickle.dumps(b"state")})
    with pytest.raises(ConfigError, match="restore the folder recovery"), owned(home, SHAPE):
        pass

    assert 1 == len(read_store(kept).states)


def test_a_disk_that_takes_no_note_hides_nothing(home: Home) -> None:
    home.run.parent.mkdir(parents=True)
    home.run.write_text("in the way of a folder")

    say_error(home, Cell(), {"error": "the first"})
    home.write_lease(Lease(1, 1, 1, "running", {}))


@pytest.mark.parametrize(("wait_s_max", "family"), [(0.0, ConfigError), (0.3, TransientError)])
def test_a_lock_is_waited_for_no_longer_than_told(
    tmp_path: Path, wait_s_max: float, family: type[AirsideError]
) -> None:
    lock = tmp_path / "lock"
    with (
        locked(lock, kind="flow", name="ingest"),
        pytest.raises(family, match="another process"),
        locked(lock, kind="flow", name="ingest", wait_s_max=wait_s_max),
    ):
        pass
    with locked(lock, kind="flow", name="ingest"):
        pass


def test_a_file_that_airside_did_not_write_is_named(home: Home) -> None:
    replace_file(home.manifest_file, b"{")
    with pytest.raises(ConfigError, match=r'"manifest.json": found not what Airside writes'):
        home.read_manifest()
