"""`make image`: the one image of the CronJobs, the database's sidecar and the functions, from Debian's packages."""
