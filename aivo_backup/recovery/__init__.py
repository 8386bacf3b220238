"""Recovery plans: the three scenarios of the runbook as typed steps, carried out, drilled and written down."""
