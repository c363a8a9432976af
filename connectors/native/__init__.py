"""The optional native level: batches between librdkafka and Python, in C, same interface."""
