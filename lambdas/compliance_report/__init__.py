"""Makes the compliance report of a period."""
