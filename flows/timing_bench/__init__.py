"""The bench of delivery-time policies: simulated worlds, simple peers, a table with intervals."""
