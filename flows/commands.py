"""What each command does; the parser is in `flows.__main__`."""

from __future__ import annotations

import base64
import os
import signal
import sys
import threading
from argparse import Namespace
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from connectors.clickhouse.client import ClickHouseAddress, connect
from connectors.clickhouse.migrations import apply_migrations, read_migrations
from connectors.crash import arm
from connectors.kafka.topics import apply_topics
from flows import ingest
from flows.cells import Cell
from flows.log import set_up_log
from flows.places import MIGRATIONS
from flows.rescale import rescale as rescale_flow
from flows.run import run_cell, run_flow
from flows.settings import Settings, read_settings
from flows.steps.seal import KEY_BYTES, Sealer
from flows.supervise import supervise
from schemas.codes import CODES, Door
from schemas.errors import ConfigError, PermanentError
from schemas.policy import load_policy
from schemas.topics_catalog import load_topics

_console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line for a person."""
    _console.print(text, markup=False)


def run(options: Namespace) -> int:
    """Run a dataflow until SIGTERM or SIGINT: here, in supervised cells, or as one of those."""
    settings = read_settings()
    set_up_log(settings.log)
    if options.cell is not None:
        number, cells = map(int, options.cell.split("/"))
        cell, wait_s_max = Cell(number, cells), settings.drain_s_max
        generation = options.generation
        run_cell(options.flow, settings, cell, generation=generation, wait_s_max=wait_s_max)
    elif options.cells is not None:
        supervise(options.flow, settings, options.cells)
    else:
        run_flow(options.flow, settings)
    return 0


def rescale(options: Namespace) -> int:
    """Give a dataflow another number of cells."""
    settings = read_settings()
    set_up_log(settings.log)
    arm(settings.crash_at)
    say(rescale_flow(options.flow, settings, options.cells))
    return 0


def migrate(_options: Namespace) -> int:
    """Apply the migrations that are missing."""
    done = migrate_database(read_settings().clickhouse_address)
    say(f"{len(done)} applied" if done else "nothing to apply")
    return 0


def migrate_database(address: ClickHouseAddress) -> list[str]:
    """Create the database if need be and bring its tables up; gives the names applied."""
    client = connect(address, create_database=True)
    try:
        return apply_migrations(client, read_migrations(MIGRATIONS))
    finally:
        client.close()


def topics(options: Namespace) -> int:
    """List the topics, or create the missing ones."""
    catalog = load_topics()
    if options.what == "list":
        table = Table("topic", "partitions", "retention", "owner", "carries", box=None)
        for topic in catalog.values():
            carries = " ".join(topic.event_types) or "-"
            table.add_row(topic.topic, str(topic.partitions), topic.retention, topic.owner, carries)
        _console.print(table)
        return 0
    settings = read_settings()
    result = apply_all_topics(settings)
    say(f"{len(result.created)} created, {len(result.present)} were there")
    for difference in result.differences:
        say(f"differs: {difference}")
    return 1 if result.differences else 0


def apply_all_topics(settings: Settings) -> Any:
    """Create the missing topics of the catalog; what is there stays as it is."""
    kafka = settings.kafka
    return apply_topics(
        load_topics().values(),
        bootstrap_servers=kafka.bootstrap_servers,
        replication=kafka.replication,
        tries=kafka.connect_tries,
        extra=kafka.extra,
    )


def up(options: Namespace) -> int:
    """Start the embedded stack, with topics and tables, and keep it until told to stop."""
    from connectors.embedded.stack import EmbeddedStack  # noqa: PLC0415 - needs the extra `local`

    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with EmbeddedStack(
        options.data, kafka_port=options.kafka_port, clickhouse_port=options.clickhouse_port
    ) as stack:
        settings = read_settings(
            {
                "kafka": {"bootstrap_servers": stack.bootstrap_servers},
                "clickhouse": {"url": stack.clickhouse_url},
            }
        )
        apply_all_topics(settings)
        migrate_database(settings.clickhouse_address)
        say("running, with topics and tables; stop with Ctrl-C. For another terminal:")
        for line in export_lines(stack.bootstrap_servers, stack.clickhouse_url):
            say(line)
        while not done.wait(1.0):
            stack.check()
    say("stopped")
    return 0


def export_lines(bootstrap_servers: str, clickhouse_url: str) -> list[str]:
    """The lines that make another terminal use an embedded stack."""
    return [
        f"export AIRSIDE_KAFKA__BOOTSTRAP_SERVERS={bootstrap_servers}",
        f"export AIRSIDE_CLICKHOUSE__URL={clickhouse_url}",
        # The embedded broker shows aborted transactions to everyone: do not claim what it lacks.
        "export AIRSIDE_KAFKA__DELIVERY=at_least_once",
    ]


def check_policy(options: Namespace) -> int:
    """Run the policy's own tests and its coverage check."""
    policy = load_policy(options.file) if options.file else ingest.read_policy(_policy_only())
    faults = policy.check()
    for fault in faults:
        say(f"policy: {fault}")
    cells = len(policy.classes) * len(policy.purposes)
    if not faults:
        say(f"policy version {policy.version}: {len(policy.tests)} tests, {cells} cells, all well")
    return 1 if faults else 0


def _policy_only() -> Settings:
    """Settings for commands that need no servers: places that are never opened."""
    nowhere = {"kafka": {"bootstrap_servers": "-"}, "clickhouse": {"url": "-"}}
    return read_settings(nowhere)


def _kafka_only() -> Settings:
    """Settings for commands that only publish: no ClickHouse need be named."""
    return read_settings({"clickhouse": {"url": "-"}})


def draw_key(_options: Namespace) -> int:
    """Print a new key for AIRSIDE_QUARANTINE_KEY."""
    say(base64.b64encode(os.urandom(KEY_BYTES)).decode())
    return 0


def unseal(_options: Namespace) -> int:
    """Open notices of the quarantine or late topic, one JSON a line, to standard output."""
    secret = _policy_only().quarantine_key
    if secret is None:
        raise ConfigError(
            do="open",
            kind="sealed messages",
            found="no key",
            hint="set AIRSIDE_QUARANTINE_KEY to the key they were sealed with",
        )
    sealer = Sealer(secret.get_secret_value())
    for number, line in enumerate(sys.stdin.buffer, 1):
        sys.stdout.buffer.write(orjson.dumps(_opened(line, number, sealer)) + b"\n")
    return 0


def _opened(line: bytes, number: int, sealer: Sealer) -> dict[str, Any]:
    try:
        notice: dict[str, Any] = orjson.loads(line)
        if notice["sealed"]:
            opened = sealer.open(notice["sealed"], about=notice["origin"])
            notice["message"] = orjson.loads(opened)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise PermanentError(
            do="open",
            kind="line",
            name=str(number),
            found="no notice of ours",
            expected="a value of ntf.quarantine.v1 or ntf.late.v1 on each line",
            hint="the lines before it were opened",
        ) from None
    return notice


def list_codes(_options: Namespace) -> int:
    """Print each refusal code with its door and meaning."""
    table = Table("code", "door", "meaning", box=None)
    for name, code in CODES.items():
        door = "routed, with a warning" if code.door is Door.ROUTED else code.door.value
        table.add_row(name, door, code.meaning)
    _console.print(table)
    return 0


def doctor(options: Namespace) -> int:
    """Print what a start of a flow would meet; 1 when something would stop it."""
    from flows.doctor.examine import examine  # noqa: PLC0415 - starts quicker without
    from flows.doctor.show import table_of, verdict_of  # noqa: PLC0415 - the same

    report = examine(options.flow)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        _console.print(table_of(report), soft_wrap=False)
        say(verdict_of(report))
    return 0 if report.passed else 1


def demo(options: Namespace) -> int:
    """Run the whole of Airside here for a while; see `flows.demo`."""
    from flows.demo import run_demo  # noqa: PLC0415 - starts quicker without
    from flows.simulate import read_shares  # noqa: PLC0415 - starts quicker without

    return run_demo(
        seconds=options.seconds,
        rate=options.rate,
        seed=options.seed,
        shares=read_shares(options.faults),
        report=options.report,
        keep=options.keep,
        data=options.data,
    )


def simulate(options: Namespace) -> int:
    """Publish a simulated world to the Kafka of the settings."""
    from flows.demo import make_world, send_world  # noqa: PLC0415 - starts quicker without
    from flows.simulate import read_shares  # noqa: PLC0415 - starts quicker without

    settings = _kafka_only()
    world = make_world(
        seconds=options.seconds,
        rate=options.rate,
        seed=options.seed,
        shares=read_shares(options.faults),
    )
    sent = send_world(settings, world, rate=options.rate, truth_path=options.truth)
    say(f"{sent} messages sent")
    return 0


def replay(options: Namespace) -> int:
    """Publish a file of CloudEvents."""
    from flows.replay import run_replay  # noqa: PLC0415 - starts quicker without

    return run_replay(options.file, settings=_kafka_only(), speed=options.speed)


def convert(options: Namespace) -> int:
    """Turn a log of messages into CloudEvents."""
    from flows.convert import run_convert  # noqa: PLC0415 - starts quicker without

    return run_convert(
        options.csv,
        options.out,
        columns=options.columns,
        key_file=options.key_file,
        log=options.log,
        delimiter=options.delimiter,
    )


def reconcile(options: Namespace) -> int:
    """Compare facts with rollups, books and journeys, and repair what may be if asked."""
    from flows.reconcile.job import Wish  # noqa: PLC0415 - starts quicker without
    from flows.reconcile.watch import run_reconcile  # noqa: PLC0415 - the same

    wish = Wish(
        since_s=options.since,
        repair=options.repair,
        closed_only=options.closed,
        any_loss=options.any_loss,
    )
    return run_reconcile(
        read_settings(), wish, watch_s=options.watch, as_json=options.json, console=_console
    )
