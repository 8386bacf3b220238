"""Retention proven over generated histories; the oracles share no code with :mod:`aivo_backup.policy`."""
