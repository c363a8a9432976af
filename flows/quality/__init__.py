"""The quality of data: rules, anomalies, and lineage as declared against as observed."""
