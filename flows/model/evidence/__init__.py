"""Does a delivery time matter? Always-valid tests and off-policy estimates, from sums alone."""
