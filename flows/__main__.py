"""The command line: `airside COMMAND`, also `python -m flows COMMAND`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Final

from flows import bench, commands
from flows.catalog import FLOWS
from flows.dashboard.command import add_dashboard_command
from flows.log import set_up_log
from flows.process.options import add_process_command
from flows.quality.command import add_quality_commands
from flows.query.options import add_query_commands
from flows.timing_commands import add_timing_commands
from schemas.errors import AirsideError, ConfigError
from schemas.policy import SPAN, seconds_of

WATCH_S_MAX: Final = 86_400

FAULTS_HELP: Final = (
    "share of all messages that is wrong, late or twice (default 0.06), or shares by kind, as in "
    "late=0.1,odd=0: malformed, mislabelled, duplicate, late, too_late, out_of_order, odd"
)


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="airside",
        description="Turns a company's notification traffic into data it can trust and act on.",
    )
    some = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_stack_commands(some)
    _add_data_commands(some)
    _add_check_commands(some)
    _add_reconcile_command(some)
    add_query_commands(some)
    add_quality_commands(some)
    add_process_command(some)
    add_dashboard_command(some)
    _add_bench_command(some)
    add_timing_commands(some)
    return parser


def _add_stack_commands(some: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = some.add_parser("demo", help="run everything here for a while and check every number")
    demo.add_argument("--seconds", type=int, default=30, help="how long to send (default 30)")
    demo.add_argument("--rate", type=int, default=1_000, help="messages a second (default 1000)")
    demo.add_argument("--seed", type=int, default=7, help="seed of the simulated world")
    demo.add_argument("--faults", metavar="SHARE", help=FAULTS_HELP)
    demo.add_argument("--report", type=Path, help="write the outcome to this JSON file")
    demo.add_argument("--keep", action="store_true", help="keep the stack running at the end")
    demo.add_argument("--data", type=Path, help="folder to work in (default: a temporary one)")
    demo.set_defaults(act=commands.demo)
    up = some.add_parser("up", help="start the embedded stack and keep it running")
    up.add_argument("--data", type=Path, default=Path(".airside/stack"), help="data folder")
    up.add_argument("--kafka-port", type=int, default=0, help="0 takes a free one")
    up.add_argument("--clickhouse-port", type=int, default=0, help="0 takes a free one")
    up.set_defaults(act=commands.up)
    topics = some.add_parser("topics", help="create the topics of schemas/topics")
    topics.add_argument("what", choices=["apply", "list"])
    topics.set_defaults(act=commands.topics)
    migrate = some.add_parser("migrate", help="create or bring up the ClickHouse tables")
    migrate.set_defaults(act=commands.migrate)
    run = some.add_parser("run", help="run a dataflow until it is told to stop")
    run.add_argument("flow", choices=list(FLOWS))
    run.add_argument("--cells", type=int, help="processes, started and looked after by this one")
    run.add_argument("--cell", help=argparse.SUPPRESS)  # i/n: one of a supervisor's cells
    run.add_argument("--generation", type=int, help=argparse.SUPPRESS)
    run.set_defaults(act=commands.run)
    rescale = some.add_parser("rescale", help="give a dataflow another number of cells")
    rescale.add_argument("flow", choices=list(FLOWS))
    rescale.add_argument("--cells", type=int, required=True, help="processes to have")
    rescale.set_defaults(act=commands.rescale)


def _add_data_commands(some: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    simulate = some.add_parser("simulate", help="publish a simulated world, with faults")
    simulate.add_argument("--seconds", type=int, default=30)
    simulate.add_argument("--rate", type=int, default=1_000, help="0: as fast as it goes")
    simulate.add_argument("--seed", type=int, default=7)
    simulate.add_argument("--faults", metavar="SHARE", help=FAULTS_HELP)
    simulate.add_argument("--truth", type=Path, help="write what was sent to this .jsonl.gz")
    simulate.set_defaults(act=commands.simulate)
    replay = some.add_parser("replay", help="publish a file of CloudEvents, one a line")
    replay.add_argument("file", type=Path, help="JSONL in structured mode, also .gz")
    replay.add_argument("--speed", type=float, help="1: as it was; 60: sixty times; default: all")
    replay.set_defaults(act=commands.replay)
    convert = some.add_parser("convert", help="turn a log of messages into CloudEvents")
    convert.add_argument("csv", type=Path, help="sender, recipient, unix time; also .gz")
    convert.add_argument("out", type=Path, help="JSONL to write, also .gz")
    convert.add_argument("--columns", default="0,1,2", help="places of the three columns")
    convert.add_argument("--delimiter", default=",", help="between columns")
    convert.add_argument("--log", default="", help="name of the log, the beginning of ids")
    convert.add_argument("--key-file", type=Path, help="key of pseudonyms (default: OUT.key)")
    convert.set_defaults(act=commands.convert)


def _add_check_commands(some: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = some.add_parser("doctor", help="look before a start: what would stop it, what to do")
    doctor.add_argument("flow", choices=list(FLOWS), nargs="?", default="ingest")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(act=commands.doctor)
    policy = some.add_parser("policy", help="look after the policy file")
    policy.add_argument("what", choices=["check"])
    policy.add_argument("file", type=Path, nargs="?", help="default: the one in force")
    policy.set_defaults(act=commands.check_policy)
    key = some.add_parser("key", help="draw a key that seals refused messages")
    key.set_defaults(act=commands.draw_key)
    unseal = some.add_parser("unseal", help="open sealed notices (JSONL on standard input)")
    unseal.set_defaults(act=commands.unseal)
    codes = some.add_parser("codes", help="list the refusal codes")
    codes.set_defaults(act=commands.list_codes)


def _add_bench_command(some: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    # Its arguments are its own: a prefix that nobody types leaves them all to it.
    parser = some.add_parser(
        "bench",
        help="compare with a raw loop and other systems (in a checkout); `bench --help`",
        prefix_chars="\0",
        add_help=False,
    )
    parser.add_argument("arguments", nargs="*")
    parser.set_defaults(act=bench.bench)


def _add_reconcile_command(some: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = some.add_parser(
        "reconcile", help="compare facts with what is made of them, and repair"
    )
    parser.add_argument("--repair", action="store_true", help="write anew what the facts tell")
    parser.add_argument("--closed", action="store_true", help="leave out what is still written to")
    parser.add_argument(
        "--since",
        type=_span,
        metavar="SPAN",
        help="compare what has newer records, for example 36h (default: lateness and one day)",
    )
    parser.add_argument(
        "--any-loss", action="store_true", help="repair however many events go from the rollups"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a run")
    parser.add_argument("--watch", type=_seconds, metavar="SECONDS", help="again and again")
    parser.set_defaults(act=commands.reconcile)


def _span(text: str) -> int:
    if not re.fullmatch(SPAN, text):
        message = "expected a number with s, m, h or d"
        raise argparse.ArgumentTypeError(message)
    return seconds_of(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= WATCH_S_MAX:
        message = f"expected 1 to {WATCH_S_MAX}"
        raise argparse.ArgumentTypeError(message)
    return seconds


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Shapes: 0 for success, 1 for a result that is not as it must be, the error's own code for
    what could not be done; that is one line on standard error.
    """
    options = make_parser().parse_args(argv)
    set_up_log()
    try:
        result: int = options.act(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads our output has enough of it, as `head` does; what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1  # as for what is printed as a table
    except AirsideError as err:
        sys.stderr.write(f"airside: {err}\n")
        return err.exit_code
    except OSError as err:
        if err.filename is None:
            raise
        # A file that a command was given, or one in its folder: what the system says is enough.
        sys.stderr.write(f'airside: could not use file "{err.filename}": found {err.strerror}\n')
        return ConfigError.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("airside: stopped\n")
        return 130
    return result


if __name__ == "__main__":
    sys.exit(main())
