"""Pure steps: blocks in, blocks out; no engine, no client, no clock."""
