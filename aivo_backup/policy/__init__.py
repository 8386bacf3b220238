"""Decisions without I/O: what is provisioned, when jobs run, what is kept. ``now`` is always an argument.

Both the Pulumi program and the jobs read this package, so it uses the standard library and one cron library only.
"""
