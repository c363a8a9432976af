"""Compare process mining in SQL with pm4py, which runs out of process: its licence is not ours.

`python -m tests.process_pm4py INTERPRETER` compares on a simulated world; `--log FILE` on a log of
messages that `airside convert` made events of, `--golden` writes what the tests compare with.
The interpreter is one of an environment of its own that has pm4py, which is never in our locks.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson
from clickhouse_connect.driver.client import Client

from connectors.embedded.clickhouse import EmbeddedClickHouse
from flows.journey.acts import NUMBERS, RANKS
from flows.process.ask import answer
from flows.process.queries import DFG, TIMES, VARIANTS, Scope
from flows.simulate import World
from schemas.process import load_process
from tests.journeys_run import JourneyRun
from tests.process_logs import Log, fresh_database, log_of, write_log

FOLDER: Final = Path(__file__).parent / "data" / "process"
LOG: Final = FOLDER / "log.csv.gz"
GOLDEN: Final = FOLDER / "pm4py.json"
INTERPRETER: Final = "TEST_AIRSIDE_PM4PY"
SCOPE: Final = Scope(since_s=0, until_s=2_000_000_000, now_ms=0, timeout_ms=0)

_SCRIPT: Final = """
import json, sys
import pandas, pm4py
data = pandas.read_csv(sys.argv[1])
data["at"] = pandas.to_datetime(data["at"], unit="ms", utc=True)
log = pm4py.format_dataframe(data, case_id="journey", activity_key="act", timestamp_key="at")
dfg, starts, ends = pm4py.discover_dfg(log)
spans, _, _ = pm4py.discover_performance_dfg(log)
told = {
    "version": pm4py.__version__,
    "dfg": sorted([a, b, int(n)] for (a, b), n in dfg.items()),
    "totals_s": sorted([a, b, float(found["sum"])] for (a, b), found in spans.items()),
    "starts": {name: int(n) for name, n in sorted(starts.items())},
    "ends": {name: int(n) for name, n in sorted(ends.items())},
    "variants": sorted([list(acts), int(n)] for acts, n in pm4py.get_variants(log).items()),
    "cycle_s": round(float(sum(pm4py.get_all_case_durations(log))), 3),
}
with open(sys.argv[2], "w") as out:
    json.dump(told, out)
"""


def ask_pm4py(interpreter: str, log: Path, out: Path) -> dict[str, Any]:
    """What pm4py says of a log, as plain figures."""
    command = [interpreter, "-W", "ignore", "-c", _SCRIPT, str(log), str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    told: dict[str, Any] = json.loads(out.read_text())
    return told


def ask_sql(client: Client) -> dict[str, Any]:
    """What our SQL says of the journeys in a database, in pm4py's form."""
    process = load_process()
    lines = answer(client, DFG, process, SCOPE)
    inner = [line for line in lines if line[0] and line[1]]
    return {
        "dfg": sorted([a, b, n] for a, b, n, *_ in inner),
        "totals_s": sorted([a, b, total_s] for a, b, *_, total_s in inner),
        "starts": {b: n for a, b, n, *_ in sorted(lines) if not a},
        "ends": {a: n for a, b, n, *_ in sorted(lines) if not b},
        "variants": sorted(
            [told.split(" > "), n] for told, n, *_ in answer(client, VARIANTS, process, SCOPE)
        ),
        "cycle_s": round(sum(line[4] for line in answer(client, TIMES, process, SCOPE)), 3),
    }


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The figures that differ; spans are the same to the millisecond."""
    return [name for name, told in ours.items() if _plain(told) != _plain(theirs[name])]


def _plain(told: Any) -> Any:
    """Figures as they stand in JSON, spans to the millisecond."""
    return json.loads(json.dumps(told), parse_float=lambda text: round(float(text), 3))


def world_log(seed: int, total: int) -> Log:
    """The journeys of a simulated world, faults included, as the follower tells them."""
    run = JourneyRun(World(seed, total=total, end_ms=1_800_000_000_000, people=80))
    run.follow(run.as_read(Random(seed), messages_max=300))
    return log_of(run.journeys.rows.values())


def converted_log(path: Path) -> Log:
    """The journeys of the events in a file, by time and by how far an act brings a journey."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    with gzip.open(path) as lines:
        for line in lines:
            event = orjson.loads(line)
            act = event["type"].removeprefix("ntf.").removesuffix(".v1")
            at_ms = round(datetime.fromisoformat(event["time"]).timestamp() * 1_000)
            journey = found.setdefault(event["correlationid"], [])
            journey.append((at_ms, RANKS[NUMBERS[act]], act))
    return {name: [(at_ms, act) for at_ms, _, act in sorted(told)] for name, told in found.items()}


def write_csv(path: Path, log: Log) -> None:
    """A log as pm4py reads it; the same bytes for the same log."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("journey", "act", "at"))
    for journey in sorted(log):
        writer.writerows((journey, act, at_ms) for at_ms, act in log[journey])
    data = out.getvalue().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read_csv(path: Path) -> dict[str, list[tuple[int, str]]]:
    """The log of a file that `write_csv` wrote."""
    found: dict[str, list[tuple[int, str]]] = {}
    for row in csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())):
        found.setdefault(row["journey"], []).append((int(row["at"]), row["act"]))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, or write the golden files; 1 when a figure differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.process_pm4py", description=__doc__)
    parser.add_argument("interpreter", help="a Python that has pm4py")
    parser.add_argument("--log", type=Path, help="events of `airside convert`, .gz")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--total", type=int, default=1_200, help="events of the world")
    parser.add_argument("--golden", action="store_true", help="write what the tests compare with")
    given = parser.parse_args(arguments)
    log = converted_log(given.log) if given.log else world_log(given.seed, given.total)
    with tempfile.TemporaryDirectory("-airside") as name:
        folder = Path(name)
        write_csv(folder / "log.csv", log)
        theirs = ask_pm4py(given.interpreter, folder / "log.csv", folder / "told.json")
        if given.golden:
            write_csv(LOG, log)
            GOLDEN.write_text(json.dumps(theirs, indent=1) + "\n")
        with EmbeddedClickHouse(data_dir=folder / "store") as server:
            client = fresh_database(server.dsn, "mining")
            write_log(client, log)
            ours = ask_sql(client)
            client.close()
    found = differences(ours, theirs)
    events = sum(map(len, log.values()))
    sys.stdout.write(
        f"{len(log)} journeys, {events} events, {len(ours['dfg'])} relations, "
        f"{len(ours['variants'])} variants, pm4py {theirs['version']}: "
        f"{'differ in ' + ', '.join(found) if found else 'all equal'}\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
