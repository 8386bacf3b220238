"""How long each class of data is kept (runbook, "Retention Policies"), in days.

Bucket lifecycles, locks and the jobs that expire and prune read the same numbers.
"""

OPERATIONAL_DAYS = 30
# Seven, three and five years, leap days rounded up: a record is kept for at least the years that are promised.
COMPLIANCE_DAYS = 2557
AUDIT_DAYS = 1096
DISASTER_RECOVERY_DOCUMENT_DAYS = 1827

POSTGRES_FULLS_KEPT = 7
POSTGRES_RECOVERY_WINDOW_DAYS = 14
MINIO_DAYS = 30
OPENSEARCH_DAYS = 30

# S3 takes no transition to Standard-IA earlier than this after creation.
STANDARD_IA_AFTER_DAYS = 30
# Longer than the longest run, so that no upload in progress is taken for an abandoned one.
ABORT_MULTIPART_AFTER_DAYS = 7
