"""Where a restore test is held: in the function that is called for it, or as a Job in the cluster.

A function lives 15 minutes and has a bounded disk. A test that does not fit is never held in part: it is handed, whole,
to a Job with the same code.
"""

from aivo_backup.policy.environment import MinioSettings, OpenSearchSettings, PostgresSettings, VerificationSettings
from aivo_backup.policy.objectives import restore_time

# The rest of a function's time is for starting a server, the checks and filing; the rest of its disk for WAL and
# manifests. A test that just fits on paper is ended by Lambda on the first slow day.
_USABLE_SHARE = 0.8


def outgrown(store: PostgresSettings | MinioSettings | OpenSearchSettings, limits: VerificationSettings) -> str:
    """Why the restore test of a store does not fit into a function; empty when it does.

    PostgreSQL is restored onto the function's disk. Of MinIO, a share of the bytes is read and none is kept. OpenSearch
    restores on the cluster's own nodes, so that only time counts.
    """
    seconds = restore_time(store).seconds
    match store:
        case PostgresSettings():
            usable = int(limits.function_bytes * _USABLE_SHARE)
            if store.size_bytes > usable:
                return f"{store.size_bytes} bytes do not fit into the {usable} that a function can use"
        case MinioSettings():
            seconds *= store.verify_share
        case OpenSearchSettings():
            pass
    return _late(seconds, limits)


def _late(seconds: float, limits: VerificationSettings) -> str:
    usable = limits.function_seconds * _USABLE_SHARE
    return f"{seconds:.0f} s are more than the {usable:.0f} that a function can use" if seconds > usable else ""
