"""Software, settings and the machine, each seen failing."""

from __future__ import annotations

import base64
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from flows.doctor import check_machine, check_setup, check_software
from flows.doctor.finding import State
from flows.places import POLICY
from flows.settings import read_settings
from tests.messages import settings

MOUNTS = """\
/dev/vda / ext4 rw 0 0
tmpfs {run} tmpfs rw 0 0
shop:/export {share}\\040one nfs4 rw 0 0
/dev/vdb {share}\\040one/local xfs rw 0 0
odd
"""


def installed(name: str) -> str:
    if name == "absent":
        raise PackageNotFoundError
    return {"old": "1.9.9", "exact": "0.21.1", "next": "3.0.0"}[name]


def test_this_installation_is_what_the_release_names() -> None:
    assert {State.OK} == {finding.state for finding in check_software.check_software()}


def test_an_interpreter_out_of_range_fails() -> None:
    assert State.OK is check_software.check_python("3.12.1", "<3.13,>=3.11").state
    found = check_software.check_python("3.13.0", "<3.13,>=3.11")

    assert (State.FAIL, "Python 3.13.0; expected <3.13,>=3.11") == found[1:3]


@pytest.mark.parametrize(
    ("need", "word"),
    [
        ("absent>=1", "no absent"),
        ("old>=2", "old 1.9.9, expected >=2"),
        ("exact==0.21.2", "exact 0.21.1"),
        ("next<3,>=2.10", "next 3.0.0"),
    ],
)
def test_a_library_that_is_missing_or_out_of_range_fails(need: str, word: str) -> None:
    found = check_software.check_libraries(["exact==0.21.1", need], installed)

    assert State.FAIL is found.state
    assert word in found.found
    assert "just setup" in found.do


def test_libraries_of_extras_are_not_asked_for() -> None:
    found = check_software.check_libraries(["exact", "absent; extra == 'local'"], installed)

    assert (State.OK, "1 libraries, all in range") == found[1:3]


def test_no_time_zones_fail() -> None:
    assert State.FAIL is check_software.check_zones(set).state


def test_settings_that_cannot_be_read_stop_what_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRSIDE_LANES", "0")
    found, none, policy = check_setup.check_setup(read_settings)

    assert list(check_setup.NAMES) == [finding.name for finding in found]
    assert [State.FAIL, State.NOT_CHECKED, State.NOT_CHECKED] == [item.state for item in found]
    assert "AIRSIDE_LANES" in found[0].found
    assert "infra/env.reference" in found[0].do
    assert (None, None) == (none, policy)


def test_good_settings_pass() -> None:
    found, _, policy = check_setup.check_setup(settings)

    assert {State.OK} == {finding.state for finding in found}
    assert policy is not None


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"crash_at": "rescaling"}, "AIRSIDE_CRASH_AT"),
        ({"watchdog_s": 60}, "AIRSIDE_WATCHDOG_S"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_a_warning(more: dict[str, Any], word: str) -> None:
    found = check_setup.check_settings(settings(**more))

    assert State.WARN is found.state
    assert word in found.do


def test_a_policy_that_is_not_there_or_fails_its_tests_fails(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    found, policy = check_setup.check_policy(settings(policy=path))
    assert (State.FAIL, None) == (found.state, policy)
    assert "AIRSIDE_POLICY" in found.do

    text = POLICY.read_text()
    assert "expect: T203" in text
    path.write_text(text.replace("expect: T203", "expect: T999"))
    found, policy = check_setup.check_policy(settings(policy=path))
    assert (State.FAIL, True) == (found.state, policy is not None)
    assert "airside policy check" in found.do


def test_keys_are_judged_by_their_form_and_never_shown() -> None:
    assert State.WARN is check_setup.check_key(settings(quarantine_key=None)).state
    secret = base64.b64encode(b"hunter2").decode()
    found = check_setup.check_key(settings(quarantine_key=secret))

    assert (State.FAIL, "make one with `airside key`") == (found.state, found.do)
    assert secret not in str(found)


def test_a_data_folder_is_tried_and_left_empty(tmp_path: Path) -> None:
    assert State.OK is check_machine.check_folder(tmp_path).state
    assert "can be made" in check_machine.check_folder(tmp_path / "a" / "b").found
    assert [] == list(tmp_path.iterdir())


def test_a_data_folder_that_cannot_be_written_fails() -> None:
    found = check_machine.check_folder(Path("/proc/self"))

    assert State.FAIL is found.state
    assert "AIRSIDE_DATA" in found.do


def test_file_systems_are_told_apart(tmp_path: Path) -> None:
    run, share = tmp_path / "run", tmp_path / "share"
    local = tmp_path / "share one" / "local"
    for folder in (run, share, local):
        folder.mkdir(parents=True)
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS.format(run=run, share=share))

    def kind(folder: Path) -> tuple[State, str]:
        found = check_machine.check_file_system(folder, mounts)
        return found.state, found.found.partition(",")[0]

    assert (State.OK, "ext4") == kind(share)
    assert (State.WARN, "tmpfs") == kind(run / "not" / "there")
    assert (State.WARN, "nfs4") == kind(local.parent)
    assert (State.OK, "xfs") == kind(local)
    assert State.NOT_CHECKED is check_machine.check_file_system(run, tmp_path / "none").state


def test_the_disk_needs_room_for_what_is_there_three_times() -> None:
    gib = 1 << 30
    assert State.OK is check_machine.check_disk(4 * gib, store_bytes=gib).state
    assert State.WARN is check_machine.check_disk(4 * gib - 1, store_bytes=gib).state
    assert State.WARN is check_machine.check_disk(gib + gib // 4, store_bytes=gib).state
    assert State.FAIL is check_machine.check_disk(gib + gib // 4 - 1, store_bytes=gib).state


def test_store_files_are_weighed_in_every_cell(tmp_path: Path) -> None:
    for place in ("ingest", "ingest/cell-0-of-2"):
        folder = tmp_path / "recovery" / place
        folder.mkdir(parents=True)
        (folder / "part-0.sqlite3").write_bytes(b"12345")
        (folder / "manifest.json").write_bytes(b"{}")

    assert 10 == check_machine.size_of(tmp_path)


def test_too_few_open_files_are_a_warning() -> None:
    found = check_machine.check_descriptors(256, lanes=4, brokers=3)

    assert (State.WARN, "raise the limit: `ulimit -n 664`") == (found.state, found.do)
    assert State.OK is check_machine.check_descriptors(332, lanes=4, brokers=3).state
    assert "no limit" in check_machine.check_descriptors(-1, lanes=4, brokers=3).found


def test_the_machine_has_a_finding_for_each_name(tmp_path: Path) -> None:
    found = check_machine.check_machine(settings(data=tmp_path))

    assert list(check_machine.NAMES) == [finding.name for finding in found]
