"""How fast a whole pipeline is here: a clip at its own pace, looped, tracker included."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from avatar_stream import stages
from avatar_stream.errors import ConfigError
from avatar_stream.lab.figures import check_output, machine_name, percentiles, tell
from avatar_stream.running import runner
from avatar_stream.running.config import check_pipeline
from avatar_stream.running.meter import Report
from avatar_stream.running.pipeline import Output, Pipeline, build_pipeline
from avatar_stream.types import Frame

# The first moments compile kernels and fill caches; they are measured by `first_picture_s` and left out else.
_WARM_UP_S = 3.0


class _NullSink(stages.Sink):
    """The end of the way: takes every frame, as fast as it comes, and shows it to nobody."""

    def __init__(self) -> None:
        self.size_wh: tuple[int, int] | None = None

    def open(self) -> None:
        """Nothing to take."""

    def write(self, frame: Frame) -> None:
        """Look at the frame's size."""
        self.size_wh = (frame.image.shape[1], frame.image.shape[0])

    def close(self) -> None:
        """Nothing to give back."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Measure the whole pipeline: frames a second, delay from capture to the output, and where the time goes."""
    add = parser.add_argument
    add(
        "--input",
        type=Path,
        metavar="CLIP",
        help="played at its own pace, looped (default: the bundled clip)",
    )
    add("--seconds", type=float, default=30.0, metavar="N", help="after a warm-up of 3 s (default: 30)")
    add("--json", type=Path, metavar="FILE", help="write the figures there too")
    add("--avatar", default="mei", metavar="NAME", help="who signs (default: mei)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of the pipeline, for instance synthesizer.steps=2",
    )
    add(
        "--page",
        action="store_true",
        help="measure to the decoded pixel too, in headless Chromium: a clock is drawn into the picture",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it, print the figures as JSON."""
    check_output(arguments.json)
    if arguments.seconds <= 0:
        raise ConfigError(f"--seconds {arguments.seconds:g}: expected more than 0")
    figures = measure(arguments.input, arguments.seconds, arguments.avatar, arguments.set, arguments.page)
    tell(figures, arguments.json)
    return 0


def measure(
    clip: Path | None, seconds: float, avatar: str, overrides: list[str], page: bool = False
) -> dict[str, Any]:
    """Run the pipeline and return the figures; see `summarize` for the keys."""
    from avatar_stream.running.config import apply_override

    source = {
        "type": "video_file",
        "path": str(clip or "assets/clips/signer.mp4"),
        "own_pace": True,
        "loop": True,
    }
    given: dict[str, Any] = {"avatar": avatar, "source": source, "synthesizer": {"type": "flow"}}
    for override in overrides:
        apply_override(given, override)
    pipeline = build_pipeline(check_pipeline(given, "bench", outputs_needed=False))
    if not pipeline.source.live:
        raise ConfigError("bench measures live sources: leave source.own_pace true, or take a camera")
    viewer = _NullSink()
    pipeline.outputs = [*pipeline.outputs, Output(viewer, "viewer")]
    figures = (measure_with_page if page else measure_pipeline)(pipeline, seconds)
    return figures | {"size_wh": viewer.size_wh}


def measure_with_page(pipeline: Pipeline, seconds: float, warm_up_s: float = _WARM_UP_S) -> dict[str, Any]:
    """Do what `measure_pipeline` does with a page open; adds `page`, which `PageWatcher.finish` describes."""
    from avatar_stream.broadcast.server import Server
    from avatar_stream.broadcast.settings import ServerOptions
    from avatar_stream.lab.bench.page import ClockedComposer, PageWatcher
    from avatar_stream.sinks.web import WebSink

    sink = WebSink(context=stages.Context(server=Server(ServerOptions(port=0))))
    pipeline.composer = ClockedComposer(pipeline.composer.options)
    pipeline.outputs = [*pipeline.outputs, Output(sink, "page")]
    watcher = PageWatcher(lambda: sink.address)
    watcher.start()
    try:
        figures = measure_pipeline(pipeline, seconds, warm_up_s)
        return figures | {"page": watcher.finish(warm_up_s)}
    finally:
        watcher.stop()


def measure_pipeline(pipeline: Pipeline, seconds: float, warm_up_s: float = _WARM_UP_S) -> dict[str, Any]:
    """Run a live pipeline for `warm_up_s + seconds` after its first frame; returns `summarize`'s figures."""
    process = psutil.Process()
    begun_s = time.monotonic()
    marks: dict[str, Any] = {}

    def mark(_: Frame) -> None:
        now_s = time.monotonic()
        marks.setdefault("first", now_s)
        if now_s >= marks["first"] + warm_up_s:
            marks.setdefault("warm", (now_s, _cpu_s(process)))

    report = runner.run(pipeline, on_frame=mark, seconds=warm_up_s + seconds)
    if "warm" not in marks:
        raise ConfigError("too few frames to measure: give more --seconds")
    (warm_s, cpu_s), end_s = marks["warm"], time.monotonic()
    cores = (_cpu_s(process) - cpu_s) / max(end_s - warm_s, 1e-6)
    figures = summarize(report, warm_s)
    figures |= {"cpu_cores": round(cores, 2), "rss_mb": round(process.memory_info().rss / 2**20)}
    figures |= _describe(pipeline)
    return figures | {"first_picture_s": round(marks["first"] - begun_s, 2), "seconds": seconds}


def summarize(report: Report, from_s: float) -> dict[str, Any]:
    """Figures of a report from a moment on (`time.monotonic()`).

    Returns:
        fps: frames at the output a second; latency_ms: p50 and p95 from capture to the output's end;
        latency_growth_ms_per_min: slope of a line through all delays; stages: p50_ms and p95_ms of each one's
        work on a frame; dropped: frames overwritten by newer ones since the start, by hand-over.
    """
    delays = report.delays[report.delays[:, 0] >= from_s] if len(report.delays) else report.delays
    if len(delays) < 3:
        raise ConfigError("too few frames to measure: give more --seconds")
    span_s = delays[-1, 0] - delays[0, 0]
    slope = np.polyfit((delays[:, 0] - delays[0, 0]) / 60, delays[:, 1], 1)[0]
    return {
        "fps": round((len(delays) - 1) / span_s, 2),
        "latency_ms": percentiles(delays[:, 1]),
        "latency_growth_ms_per_min": round(float(slope), 2),
        "stages": {
            name: percentiles(done[done[:, 0] >= from_s, 1], "_ms")
            for name, done in report.stages.items()
            if (done[:, 0] >= from_s).any()
        },
        "dropped": report.dropped,
    }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _describe(pipeline: Pipeline) -> dict[str, Any]:
    import torch

    options = pipeline.cast.synthesizer.options
    return {
        "device": str(getattr(options, "device", None) or ("cuda" if torch.cuda.is_available() else "cpu")),
        "model": getattr(options, "model", type(pipeline.cast.synthesizer).__name__),
        "steps": getattr(options, "steps", None),
        "machine": machine_name(),
    }
