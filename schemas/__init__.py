"""What data looks like: tickets, events, policy, fates, errors; topics and contracts as data."""
