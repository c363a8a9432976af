"""Ask ClickHouse for metrics: compiled from their definitions, printed as table, CSV or JSON."""
