"""What Prometheus is told; nothing in it tells of photos, sessions or people."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lightningdrag_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.jobs = Counter("lightningdrag_jobs", "Jobs ended.", ["kind", "state"], registry=self.registry)
        self.job_seconds = Histogram(
            "lightningdrag_job_seconds",
            "Time a worker took for a job, its share of a batch.",
            ["kind"],
            buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120),
            registry=self.registry,
        )
        self.wait_seconds = Histogram(
            "lightningdrag_wait_seconds",
            "Time a job waited in the queue.",
            buckets=(0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120),
            registry=self.registry,
        )
        self.restarts = Counter("lightningdrag_worker_restarts", "Workers lost.", registry=self.registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A figure that is read when asked for."""
        Gauge(f"lightningdrag_{name}", text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self.registry)
