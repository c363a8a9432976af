"""The benchmark: the same jobs, from the same broker and topic, for Airside and its peers."""
