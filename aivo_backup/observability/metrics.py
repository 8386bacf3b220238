"""The metrics that are published, and the board that holds the newest value of each.

Every fact comes from a *source* (a store, the catalog, AWS). A source that fails takes its own values away and nobody
else's: a value that is not known any more is not published, and ``backup_source_up`` says so.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from aivo_backup.errors import BackupError
from aivo_backup.policy.metrics import METRICS, SOURCE_CHECKED, SOURCE_UP


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One value of one series.

    Attributes:
        metric: a name in :data:`METRICS`.
        suffix: ``_bucket``, ``_sum`` or ``_count`` of a histogram.
    """

    metric: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    suffix: str = ""


Gather = Callable[[datetime], Iterable[Sample]]
"""Looks at a source now (UTC). Raises BackupError when the source cannot be asked."""


class Board(Collector):
    """The newest samples of every source. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: dict[str, tuple[Sample, ...]] = {}

    def look(self, source: str, gather: Gather, now: datetime) -> BackupError | None:
        """Asks a source and takes its answer over.

        Returns:
            what it failed with; its former values are gone then.
        """
        failure: BackupError | None = None
        found: tuple[Sample, ...] = ()
        try:
            found = tuple(gather(now))
        except BackupError as error:
            failure = error
        labels = {"source": source}
        own = (
            Sample(metric=SOURCE_UP, value=float(failure is None), labels=labels),
            Sample(metric=SOURCE_CHECKED, value=now.timestamp(), labels=labels),
        )
        with self._lock:
            self._samples[source] = (*own, *found)
        return failure

    def seen(self) -> frozenset[str]:
        """The sources that were asked at least once, with or without success."""
        with self._lock:
            return frozenset(self._samples)

    def collect(self) -> Iterator[Metric]:
        """The samples as the client library writes them, each metric once."""
        with self._lock:
            everything = [sample for samples in self._samples.values() for sample in samples]
        found: dict[str, Metric] = {}
        for sample in everything:
            described = METRICS[sample.metric]
            name = sample.metric.removesuffix("_total") if described.kind == "counter" else sample.metric
            metric = found.setdefault(sample.metric, Metric(name, described.meaning, described.kind))
            metric.add_sample(f"{sample.metric}{sample.suffix}", dict(sample.labels), sample.value)
        yield from (found[name] for name in METRICS if name in found)

    def exposition(self) -> bytes:
        """Prometheus's text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)
