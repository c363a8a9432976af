"""Look before the start: `airside doctor` says what would stop a flow, and what to do about it."""
