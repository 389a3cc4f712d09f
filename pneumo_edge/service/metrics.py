"""Prometheus metrics of the service: counts and times, without file names or addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from pneumo_edge import __version__
from pneumo_edge.runtime.classifier import REMARKS
from pneumo_edge.runtime.identity import PredictorIdentity

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "pneumo_edge"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The service's metrics in a separate registry.

    Args:
        predictor: The identity of the classifier.
        gauges: Functions that are called when the metrics are requested, by name and description.
    """

    def __init__(self, predictor: PredictorIdentity, gauges: Mapping[tuple[str, str], Callable[[], float]]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info(f"{_PREFIX}_model", "The model that classifies the images.", registry=registry).info(
            {
                "model": predictor.model, "sha256": predictor.sha256, "engine": predictor.engine,
                "engine_version": predictor.version, "version": __version__,
            }
        )  # fmt: skip
        self._requests = Counter(
            f"{_PREFIX}_requests", "Requests that were answered.", ("method", "path", "status"), registry=registry
        )
        self._seconds = Histogram(
            f"{_PREFIX}_request_seconds", "Time from the head of a request to the end of its answer.", ("path",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._verdicts = Counter(f"{_PREFIX}_verdicts", "Images by their label.", ("label",), registry=registry)
        self._remarks = Counter(
            f"{_PREFIX}_remarks", "Images with a remark on their label.", ("remark",), registry=registry
        )
        self._stages = Histogram(
            f"{_PREFIX}_stage_seconds", "Time that each stage took for an image.", ("stage",), buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        for label in predictor.class_names:
            self._verdicts.labels(label)
        for remark in REMARKS:
            self._remarks.labels(remark)
        for (name, description), read in gauges.items():
            Gauge(f"{_PREFIX}_{name}", description, registry=registry).set_function(read)

    def add_connections(self, states: Mapping[str, Callable[[], int]], outcomes: Mapping[str, int]) -> None:
        """Add metrics of connections: how many are in each state, and how many had each outcome."""
        self._registry.register(_Connections(states, outcomes))

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def count_prediction(self, verdict: Mapping[str, Any]) -> None:
        """Count a classified image; ``verdict`` is the service's answer."""
        self._verdicts.labels(verdict["label"]).inc()
        for remark in REMARKS:
            if verdict.get(remark):
                self._remarks.labels(remark).inc()
        for stage, milliseconds in verdict["timings"].items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _Connections:
    def __init__(self, states: Mapping[str, Callable[[], int]], outcomes: Mapping[str, int]) -> None:
        self._states = states
        self._outcomes = outcomes

    def collect(self) -> Any:
        """Return the two families of metrics."""
        now = GaugeMetricFamily(f"{_PREFIX}_connections", "Connections by what they wait for.", labels=["state"])
        for state, read in self._states.items():
            now.add_metric([state], read())
        total = CounterMetricFamily(
            f"{_PREFIX}_connection_outcomes", "Connections accepted; refused or dropped at the limit; rejected without "
            "a request; and failed attempts to accept one.", labels=["outcome"],
        )  # fmt: skip
        for outcome, count in self._outcomes.items():
            total.add_metric([outcome], count)
        return [now, total]
