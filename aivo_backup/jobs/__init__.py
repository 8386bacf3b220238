"""The use cases: what a CronJob, a Lambda and an operator's command have in common. Clients are arguments."""
