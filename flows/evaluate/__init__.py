"""Off-policy evaluation: what other delivery-time policies would have reached, from the log."""
