"""Figures for Prometheus, read from the status at the moment of asking: nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_GAUGES = {
    "fps": ("avatar_stream_fps", "Finished pictures a second"),
    "delay_ms": ("avatar_stream_delay_milliseconds", "Capture to output, median of the last seconds"),
    "p95_ms": (
        "avatar_stream_delay_p95_milliseconds",
        "Capture to output, 95th percentile of the last seconds",
    ),
    "target_delay_ms": ("avatar_stream_target_delay_milliseconds", "What everything is held until"),
    "left_ms": ("avatar_stream_left_milliseconds", "Capture to leaving, with a target delay, median"),
    "spread_ms": ("avatar_stream_left_spread_milliseconds", "Between its 5th and 95th percentiles"),
    "viewers": ("avatar_stream_viewers", "Viewers, those still connecting among them"),
    "connected": ("avatar_stream_viewers_connected", "Viewers whose connection stands"),
    "silent_s": ("avatar_stream_silent_seconds", "Since the last picture came"),
    "bitrate_kbps": ("avatar_stream_encoded_kbps", "Encoded video, all encodings together"),
}
_COUNTERS = {
    "late": ("avatar_stream_late_frames", "Came later than they were due"),
    "keyframes": ("avatar_stream_keyframes", "Keyframes encoded"),
    "encoded": ("avatar_stream_encoded_pictures", "Pictures encoded"),
}


class Metrics(Collector):
    """The figures of now, for `prometheus_client.generate_latest`."""

    def __init__(self, status: Callable[[], dict[str, Any]]):
        """Take what gives the whole status."""
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """Called by the client library at each scrape."""
        status = self._status()
        for key, (name, text) in _GAUGES.items():
            if status.get(key) is not None:
                yield GaugeMetricFamily(name, text, value=float(status[key]))
        for key, (name, text) in _COUNTERS.items():
            if key in status:
                yield CounterMetricFamily(name, text, value=float(status[key]))
        dropped = CounterMetricFamily(
            "avatar_stream_dropped_frames", "Overwritten by newer ones", labels=["place"]
        )
        for place, count in status.get("dropped", {}).items():
            dropped.add_metric([place], count)
        yield dropped
        stages = GaugeMetricFamily(
            "avatar_stream_stage_milliseconds", "Work a frame, median", labels=["stage"]
        )
        for stage, took_ms in status.get("stages", {}).items():
            stages.add_metric([stage], took_ms)
        yield stages
