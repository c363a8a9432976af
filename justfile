# Every recipe works from a fresh clone with Python 3.11 or 3.12; `setup` comes first.

set positional-arguments := true

python := env("PYTHON", "python3")
bin := ".venv/bin"
lock := bin / "uv pip compile -q pyproject.toml --extra local --extra dashboard --generate-hashes --universal --python-version 3.11 --no-annotate --no-header"

# List the recipes
default:
    @{{ just_executable() }} --justfile "{{ justfile() }}" --list --unsorted

# Install everything from the hashed lock into .venv
setup:
    {{ python }} -m venv .venv
    {{ bin }}/python -m pip install --require-hashes -r requirements-dev.lock
    {{ bin }}/python -m pip install --no-deps --no-build-isolation -e .

# Build the optional native library with this machine's C compiler
native *ARGS:
    {{ bin }}/python -m connectors.native.build "$@"

# Format the code and mend what ruff can mend
fmt:
    {{ bin }}/ruff format .
    {{ bin }}/ruff check --fix .

# Check format, lint, types, import layers, dependencies and committed contracts
lint:
    {{ bin }}/ruff format --check .
    {{ bin }}/ruff check .
    {{ bin }}/mypy -p flows -p schemas -p connectors -p tests
    {{ bin }}/lint-imports
    {{ bin }}/deptry .
    {{ bin }}/python -m schemas.contracts_build --check

# Run the tests that need no service
test *ARGS:
    {{ bin }}/python -m pytest -m "not kafka and not real_kafka and not embedded_kafka and not clickhouse" "$@"

# Run all tests, on the best Kafka and ClickHouse that are here
test-all *ARGS:
    {{ bin }}/python -m pytest "$@"

# Break everything for a while by this seed, and check every message; `--minutes`, `--faults`, …
chaos SEED *ARGS:
    {{ bin }}/python -m tests.chaos "$@"

# Show that each check of the chaos suite fails without its protection, and what ends a run by design
chaos-controls *ARGS:
    {{ bin }}/python -m pytest tests/chaos "$@"

# Break everything for so many minutes, seed after seed
soak MINUTES *ARGS:
    {{ bin }}/python -m tests.chaos soak --minutes "$@"

# Write the contracts, examples and reference pages anew from the models
snapshots:
    {{ bin }}/python -m schemas.contracts_build

# Keep an embedded Kafka and ClickHouse running and print their addresses
up *ARGS:
    {{ bin }}/airside up "$@"

# Bring the ClickHouse tables to the newest numbered migration
migrate *ARGS:
    {{ bin }}/airside migrate "$@"

# Look before a start: what would stop it, and what to do about it
doctor *ARGS:
    {{ bin }}/airside doctor "$@"

# Run one dataflow, for example `just run ingest`
run FLOW *ARGS:
    {{ bin }}/airside run "$@"

# Show the whole system at work on invented traffic, and check its numbers
demo *ARGS:
    {{ bin }}/airside demo "$@"

# Publish a JSONL file of events to Kafka
replay FILE *ARGS:
    {{ bin }}/airside replay "$@"

# Compare facts with rollups and books, for example `just reconcile --repair`
reconcile *ARGS:
    {{ bin }}/airside reconcile "$@"

# Compare with a raw loop and other systems: the same jobs, ratios of CPU; `--json`, `--help`
bench *ARGS:
    {{ bin }}/airside bench "$@"

# Pin all dependencies anew, with hashes and without addresses
lock:
    {{ lock }} --group build -o requirements.lock
    {{ lock }} --group dev -o requirements-dev.lock

# Do what CI does: everything, in fresh copies of the last commit
ci:
    .ci/run
