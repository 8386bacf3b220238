"""The settings of recoveries: references between the stores, applications, and whom to call."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ReferenceSettings:
    """References from the database into another store, reconciled after a restore. Exactly one of ``bucket`` and
    ``index`` is named.

    Attributes:
        query: SQL whose rows hold one text each: an object key, or a document id.
        bucket: the source bucket whose keys they are.
        index: the index or alias whose document ids they are.
    """

    query: str
    bucket: str = ""
    index: str = ""


@dataclass(frozen=True, kw_only=True)
class Contact:
    """Whom to call (runbook, "Contact Information")."""

    who: str
    how: str


# The runbook's own; an environment may name others.
ESCALATION = (
    Contact(who="Level 1: Data Reliability Engineering Team", how="alarm topic of level 1"),
    Contact(who="Level 2: Infrastructure Engineering Manager", how="alarm topic of level 2"),
    Contact(who="Level 3: CTO / VP Engineering", how="alarm topic of level 3"),
)
CONTACTS = (
    Contact(who="On-call Engineer", how="+1-555-0123"),
    Contact(who="Backup Infrastructure", how="+1-555-0124"),
    Contact(who="AWS Support", how="Enterprise Support Portal"),
    Contact(who="Security Team", how="security@aivo.com"),
)


@dataclass(frozen=True, kw_only=True)
class RecoverySettings:
    """What recovery plans need to know beyond the stores.

    Attributes:
        store_namespace: the Kubernetes namespace of the stores and of the applications that use them.
        application_selector: label selector of the workloads that are stopped while a store is replaced.
        references: references between the stores by name.
        escalation: the levels of the escalation path, in their order; ``contacts`` the people behind them.
    """

    store_namespace: str = "aivo"
    application_selector: str = "aivo-backup/uses-stores=true"
    references: Mapping[str, ReferenceSettings] = field(default_factory=dict[str, ReferenceSettings])
    escalation: tuple[Contact, ...] = ESCALATION
    contacts: tuple[Contact, ...] = CONTACTS
