"""What is tormented: `airside run FLOW`, plain or in cells, with every end on record."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from schemas.errors import TransientError
from tests.chaos.cluster import PROCESSES

ROOT: Final = Path(__file__).parents[2]
SITE: Final = Path(__file__).with_name("site")
STARTED: Final = '"event": "flow_started"'
START_S_MAX: Final = 240.0
STOP_S_MAX: Final = 120.0
LEAVE_S_MAX: Final = 30.0
POLL_S: Final = 0.05
CONFIG: Final = 78


class Exit(NamedTuple):
    """One end of a process. `ours`: we ended it; `words`: what it said about it."""

    code: int
    ours: bool
    words: str


class StuckError(TransientError):
    """Something did not happen within its bound."""

    def __init__(self, what: str, seconds: float, words: str = "") -> None:
        super().__init__(
            do="wait for", kind="step", name=what, found=f"{words[-600:]} after {seconds:.0f} s"
        )


class Target:
    """Starts a dataflow with one data folder, as often as told.

    `cells` 0 means the plain process; else the supervisor with so many cells. Its output comes
    through a pipe, so that a limit on its files leaves it its words.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        cells: int = 0,
        flow: str = "ingest",
    ) -> None:
        self.folder = folder
        self.cells = cells
        self.flow = flow
        self.log = folder / "target.log"
        self.exits: list[Exit] = []
        self.generations = 0
        self.killed = 0
        self.started_s = 0.0
        self.environment = dict(environment)
        self._child: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None
        self._log_start = 0

    @property
    def recovery(self) -> Path:
        """The folder of its recovery stores."""
        return self.folder / "recovery" / self.flow

    @property
    def pid(self) -> int:
        """The process that we started: the plain one, or the supervisor."""
        assert self._child is not None
        return self._child.pid

    def workers(self) -> dict[int, int]:
        """The processes that do the work: cell → pid; for a cell, that of its group."""
        if not self.is_running():
            return {}
        if not self.cells:
            return {0: self.pid}
        lease = self.lease()
        if lease.get("pid") != self.pid:
            return {}
        found = {int(cell): int(pid) for cell, pid in lease.get("children", {}).items() if pid}
        return {cell: pid for cell, pid in found.items() if is_alive(pid)}

    def lease(self) -> dict[str, Any]:
        """What the supervisor says of itself; empty without one."""
        try:
            return dict(json.loads((self.folder / "run" / self.flow / "lease.json").read_text()))
        except (OSError, ValueError):
            return {}

    def start(self, more: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        """Start it; return when it works, or has ended."""
        assert not self.is_running()
        self._reap(ours=False)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._child = subprocess.Popen(
            self._command(),
            cwd=ROOT,
            env={**self.environment, **(more or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._child.stdout is not None
        self._pump = threading.Thread(target=_pump, args=(self._child.stdout, self.log))
        self._pump.start()
        self.generations += 1
        self.started_s = time.time()
        if wait:
            self.wait_started()

    def _command(self) -> list[str]:
        cells = ["--cells", str(self.cells)] if self.cells else []
        return [sys.executable, "-m", "flows", "run", self.flow, *cells]

    def _parts(self) -> int:
        """How many processes build the flow."""
        return max(self.cells, 1)

    def wait_started(self) -> None:
        """Wait until the flow is built, in each cell; or the process ended."""
        deadline_s = time.monotonic() + START_S_MAX
        while self.is_running() and not self._is_started():
            if time.monotonic() > deadline_s:
                raise StuckError("start", START_S_MAX, self.words())
            time.sleep(POLL_S)

    def _is_started(self) -> bool:
        """Cells that outlive their supervisor write to the same log: so the child is asked, too."""
        return self.words().count(STARTED) >= self._parts() and self._listens()

    def _listens(self) -> bool:
        """Whether the process that we started takes SIGTERM up itself."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return False
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def is_running(self) -> bool:
        """Whether the process that we started lives."""
        return self._child is not None and self._child.poll() is None

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the process that we started."""
        if self.is_running():
            os.kill(self.pid, number)

    def tell_workers(self, number: signal.Signals) -> int:
        """Send a signal to all that work; gives to how many."""
        return sum(self.tell_one(pid, number) for pid in self.workers().values())

    def tell_one(self, pid: int, number: signal.Signals) -> bool:
        """Send a signal to one of ours; a cell is a group, of its leash and its program."""
        try:
            (os.killpg if self.cells and os.getpgid(pid) == pid else os.kill)(pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """End everything as a crash of the machine would."""
        if not self.is_running():
            return
        workers = self.workers()
        self.killed += 1
        self.tell_one(self.pid, signal.SIGKILL)
        for pid in workers.values():
            if pid != self.pid:
                self.tell_one(pid, signal.SIGKILL)
        self.wait_ended(ours=True)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, ours: bool = False) -> int:
        """Ask it to stop and wait; gives the exit code."""
        self.tell_workers(signal.SIGCONT)
        self.tell(number)
        return self.wait_ended(ours=ours)

    def wait_ended(self, *, ours: bool, seconds: float = STOP_S_MAX) -> int:
        """Wait for its end; gives the exit code. Errors: StuckError, and then it is killed."""
        assert self._child is not None
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            words = self.words()
            self._child.kill()
            self._child.wait(seconds)
            self._reap(ours=True)
            raise StuckError("end", seconds, words) from None
        return self._reap(ours=ours)

    def noticed_end(self, *, ours: bool = False) -> Exit | None:
        """The end of the process, if it ended since we looked."""
        if self._child is None or self.is_running():
            return None
        self._reap(ours=ours)
        return self.exits[-1]

    def _reap(self, *, ours: bool) -> int:
        if self._child is None:
            return 0
        child, self._child = self._child, None
        if self._pump is not None:
            self._pump.join(LEAVE_S_MAX)
        code = child.wait()
        self.exits.append(Exit(code, ours, self.words()[-4_000:]))
        return code

    def words(self) -> str:
        """What it said since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def limit_files(self, size: int) -> None:
        """Let no file of the workers grow beyond a size, as on a full disk."""
        for pid in self.programs():
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    def programs(self) -> list[int]:
        """The processes that hold the state: a cell's is the child of its leash."""
        workers = [*self.workers().values()]
        return [child for pid in workers for child in children_of(pid)] if self.cells else workers

    def stored_cells(self) -> int:
        """For how many cells the stores are; 0 without any."""
        try:
            return int(json.loads((self.recovery / "manifest.json").read_bytes())["cells"])
        except FileNotFoundError:
            return 0

    def cell_exits(self) -> list[dict[str, Any]]:
        """The supervisor's report of the ends of its cells."""
        file = self.folder / "run" / self.flow / "exits.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def orphans(self) -> list[int]:
        """Processes that still have our data folder, besides the one that we started."""
        mark = f"AIRSIDE_DATA={self.folder}\0".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes() + b"\0":
                        found.append(int(entry.name))
        return found

    def held_locks(self) -> list[str]:
        """Lock files of ours that somebody still holds."""
        found = []
        for path in self.folder.rglob("lock*"):
            if path.is_file():
                with path.open("r+") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except OSError:
                        found.append(path.relative_to(self.folder).as_posix())
        return found


class ClusterTarget(Target):
    """Bytewax's own cluster in place of a plain process; see `tests.chaos.cluster`."""

    def workers(self) -> dict[int, int]:
        """The processes of the cluster by their number."""
        return dict(enumerate(sorted(children_of(self.pid)))) if self.is_running() else {}

    def _command(self) -> list[str]:
        store = self.recovery / "cluster"
        return [sys.executable, "-m", "tests.chaos.cluster", self.flow, str(store)]

    def _parts(self) -> int:
        return PROCESSES


def is_alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children_of(pid: int) -> list[int]:
    """The children of a process."""
    try:
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    except OSError:
        return []


def _pump(source: IO[bytes], log: Path) -> None:
    with log.open("ab", buffering=0) as out:
        while block := os.read(source.fileno(), 65_536):
            out.write(block)
    source.close()
