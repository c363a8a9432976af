"""How data gets in and out: Kafka lanes and sinks, ClickHouse, the embedded stack, clocks."""
