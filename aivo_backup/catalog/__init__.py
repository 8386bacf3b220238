"""The append-only record of every run, recovery point, restore and report."""
