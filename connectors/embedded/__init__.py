"""The embedded stack: a Kafka-protocol broker and ClickHouse over HTTP, without Docker or a JVM.

Both speak the production protocols, so the rest of Airside knows only their addresses.
"""
