"""The dashboard: pages in a browser on what ClickHouse has; panels are data of `schemas`."""
