"""PostgreSQL, backed up and restored by pgBackRest: its configuration, its runs, and what it lacks around them."""
