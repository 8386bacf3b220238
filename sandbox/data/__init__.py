"""Real data for the demonstration: what any Debian machine has, loaded the same way each time.

Every loader may be called again over its own earlier data, and over what a demonstration made of it: it puts the
first state back.
"""
