"""Hours in minutes: viewers come and go, avatars change, recordings begin and end; what stays behind is counted."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from avatar_stream.controls import Controls, Setting, Wish
from avatar_stream.errors import ConfigError
from avatar_stream.lab.figures import check_output, tell
from avatar_stream.running import runner
from avatar_stream.running.config import check_pipeline
from avatar_stream.running.meter import Report
from avatar_stream.running.pipeline import build_pipeline

_SAMPLE_EVERY_S, _AVATAR_EVERY_S, _RECORD_EVERY_S, _HOLD_EVERY_S = 5.0, 20.0, 15.0, 45.0
_WARM_UP_S = 60.0  # caches fill and every way is gone once; what grows after that grows for ever
_COUNTS = ("viewers_joined", "viewers_without_picture", "viewers_sent_away")
_VIEWERS, _STAY_S = 4, (4.0, 15.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Run a broadcast with viewers coming and going, avatars changing and recordings, and print what grew."""
    add = parser.add_argument
    add("--minutes", type=float, default=15.0, metavar="N", help="after the first one (default: 15)")
    add("--input", type=Path, metavar="CLIP", help="the signer (default: the bundled clip)")
    add("--synthesizer", choices=["flow", "rig"], default="flow")
    add("--seed", type=int, default=0)
    add("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(arguments: argparse.Namespace) -> int:
    """Do it, print the figures as JSON."""
    check_output(arguments.json)
    if arguments.minutes <= 0:
        raise ConfigError(f"--minutes {arguments.minutes:g}: expected more than 0")
    figures = soak(arguments.minutes * 60, arguments.input, arguments.synthesizer, arguments.seed)
    tell(figures, arguments.json)
    return 0


def soak(
    seconds: float, clip: Path | None = None, synthesizer: str = "flow", seed: int = 0
) -> dict[str, Any]:
    """Run the broadcast; see `summarize` for what is returned, to which it adds what was done meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline = build_pipeline(check_pipeline(_pipeline(clip, synthesizer, folder), "soak"))
        controls, watcher, server = Controls(), _Watcher(), pipeline.server
        crowd = _Crowd(seed)
        crew = threading.Thread(target=_keep_busy, args=(controls, watcher, pipeline.avatars), daemon=True)

        def begin() -> None:
            crowd.start(server.address + "whep" if server is not None else "")
            watcher.start(controls)
            crew.start()

        try:
            report = runner.run(pipeline, controls, seconds=_WARM_UP_S + seconds, on_open=begin)
        finally:
            watcher.stop()
            crowd.stop()
        done = _played(Path(folder)) | crowd.figures | {"avatars": watcher.avatars}
    return summarize(np.array(watcher.samples), report) | done | {"minutes": round(seconds / 60, 2)}


def summarize(samples: np.ndarray, report: Report) -> dict[str, Any]:
    """Figures of samples after the warm-up.

    Args:
        samples: (N, 6) float64: s since the start, MB of memory, threads, open files and sockets, delay p50 in ms, fps.
        report: the run's.

    Returns:
        first, last: medians of the first and the last third, of rss_mb, threads, files, delay_ms and fps;
        growth_per_min: slope of each by least squares; frames: finished.
    """
    names = ("rss_mb", "threads", "files", "delay_ms", "fps")
    late = samples[samples[:, 0] >= _WARM_UP_S] if len(samples) else samples
    if len(late) < 6:
        raise ConfigError("too short to see growth: give more --minutes")
    third = len(late) // 3
    medians = {"first": np.median(late[:third], axis=0), "last": np.median(late[-third:], axis=0)}
    figures: dict[str, Any] = {
        key: {name: round(float(value), 1) for name, value in zip(names, values[1:], strict=True)}
        for key, values in medians.items()
    }
    slopes = [np.polyfit(late[:, 0] / 60, late[:, k + 1], 1)[0] for k in range(len(names))]
    growth = {name: round(float(slope), 3) for name, slope in zip(names, slopes, strict=True)}
    minutes = late[:, 0] // 60
    by_minute = [round(float(np.median(late[minutes == minute, 1])), 1) for minute in np.unique(minutes)]
    return figures | {"growth_per_min": growth, "rss_mb_by_minute": by_minute, "frames": report.frames}


def _pipeline(clip: Path | None, synthesizer: str, folder: str) -> dict[str, Any]:
    path = str(clip or "assets/clips/signer.mp4")
    return {
        "avatar": "mei",
        "source": {"type": "video_file", "path": path, "own_pace": True, "loop": True},
        "synthesizer": {"type": synthesizer},
        "outputs": [{"type": "web"}],
        "server": {"port": 0, "sessions_per_address": 1000},
        "recordings": folder,
    }


class _Watcher:
    """Looks at this process every few seconds."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, ...]] = []
        self.avatars = 0
        self.ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, controls: Controls) -> None:
        self._thread = threading.Thread(target=self._watch, args=(controls,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.ended.set()
        if self._thread is not None:
            self._thread.join(5)

    def _watch(self, controls: Controls) -> None:
        process, begun_s = psutil.Process(), time.monotonic()
        while not self.ended.wait(_SAMPLE_EVERY_S):
            status, memory_mb = controls.status, process.memory_info().rss / 2**20
            now_s = time.monotonic() - begun_s
            self.samples.append(
                (now_s, memory_mb, process.num_threads(), process.num_fds(), status.delay_ms, status.fps)
            )


def _keep_busy(controls: Controls, watcher: _Watcher, avatars: list[str]) -> None:
    # The crew: each thing at its own interval, so that all combinations occur.
    begun_s, turns = time.monotonic(), dict.fromkeys((Wish.AVATAR, Wish.RECORD, Wish.HOLD), 0)
    every_s = dict(zip(turns, (_AVATAR_EVERY_S, _RECORD_EVERY_S, _HOLD_EVERY_S), strict=True))
    while not watcher.ended.wait(0.5):
        for wish, turn in turns.items():
            if time.monotonic() - begun_s >= (turn + 1) * every_s[wish]:
                turns[wish] = turn + 1
                if wish is Wish.AVATAR:
                    watcher.avatars += 1
                controls.ask(
                    Setting(
                        wish, avatars[(turn + 1) % len(avatars)] if wish is Wish.AVATAR else turn % 2 == 0
                    )
                )


def _played(folder: Path) -> dict[str, int]:
    # How many recordings there are, and how many can be read to their end.
    import av

    files, whole = sorted(folder.iterdir()), 0
    for path in files:
        try:
            with av.open(str(path)) as container:
                whole += sum(1 for _ in container.decode(video=0)) > 0
        except av.error.FFmpegError:
            continue
    return {"recordings": len(files), "recordings_that_play": whole}


class _Crowd:
    """Viewers in a process of their own; half of them say goodbye, the others vanish."""

    def __init__(self, seed: int):
        context = multiprocessing.get_context("spawn")
        self._seed, self._context, self._ended = seed, context, context.Event()
        self._talk, self._theirs = context.Pipe()
        self._process: multiprocessing.process.BaseProcess | None = None
        self.figures = dict.fromkeys(_COUNTS, 0)

    def start(self, address: str) -> None:
        arguments = (address, self._seed, self._ended, self._theirs)
        self._process = self._context.Process(target=_visit, args=arguments, daemon=True)
        self._process.start()

    def stop(self) -> None:
        self._ended.set()
        if self._process is None:
            return
        if self._talk.poll(20):
            self.figures = self._talk.recv()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()


def _visit(address: str, seed: int, ended: Event, talk: Connection) -> None:
    counted = dict.fromkeys(_COUNTS, 0)

    async def all_of_them() -> None:
        chance = random.Random(seed)
        await asyncio.gather(*(_come_and_go(address, chance, ended, counted) for _ in range(_VIEWERS)))

    asyncio.run(all_of_them())
    talk.send(counted)
    talk.close()
    os._exit(0)  # what aiortc's decoder threads still hold is of no use to anybody


async def _come_and_go(address: str, chance: random.Random, ended: Event, counted: dict[str, int]) -> None:
    import aiohttp
    from aiortc.mediastreams import MediaStreamError

    while not ended.is_set():
        async with aiohttp.ClientSession() as session:
            outcome = "viewers_joined"
            try:
                await _watch_a_while(session, address, chance, ended)
            except (TimeoutError, aiohttp.ClientError):
                outcome = "viewers_without_picture"
            except MediaStreamError:
                outcome = "viewers_sent_away"
        counted[outcome] += not ended.is_set()
        await asyncio.sleep(chance.uniform(0, 3))


async def _watch_a_while(session: Any, address: str, chance: random.Random, ended: Event) -> None:
    from aiortc import RTCConfiguration, RTCPeerConnection

    from avatar_stream.lab.bench.viewers import join

    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        track, place = await join(session, address, connection)
        until_s = time.monotonic() + chance.uniform(*_STAY_S)
        await asyncio.wait_for(track.recv(), 15)
        while time.monotonic() < until_s and not ended.is_set():
            await asyncio.wait_for(track.recv(), 15)
        if chance.random() < 0.5:
            await session.delete(address.rsplit("/", 1)[0] + place)
    finally:
        await connection.close()
