"""Kafka in and out: lanes as the source, idempotent sinks, topics from data."""
