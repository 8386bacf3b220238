"""Files the record of a run that failed, without hiding why it failed."""

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import Record
from aivo_backup.errors import BackupError


def reason(failure: BaseException) -> str:
    """Why a run failed, for its record. Ctrl-C says nothing of itself."""
    return str(failure) or "stopped by a person"


def file_failure(catalog: Catalog, record: Record, failure: BaseException) -> None:
    """Files ``record``. Should that fail too, a note of it goes with ``failure``, which is what the reader must see."""
    try:
        catalog.append(record)
    except BackupError as error:
        # The record waits in the spool.
        failure.add_note(str(error))
