"""ClickHouse in and out: client, migrations, columnar writer, sink."""
