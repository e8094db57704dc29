"""Stages that stand in the places of a pipeline's own, and pipelines of them."""

import contextlib
import dataclasses
import threading
import time

import numpy as np

from avatar_stream import stages
from avatar_stream.controls import Wish
from avatar_stream.errors import TrackerError
from avatar_stream.images.compose import Composer
from avatar_stream.running.pipeline import Cast, Output, Pipeline
from avatar_stream.sources.synthetic import SyntheticSource
from avatar_stream.sources.video_file import VideoFileSource
from support.places import shared


@contextlib.contextmanager
def opened(stage, controls=None):
    """A stage or a server that is open; closed twice, which all of them bear."""
    if controls is not None:
        stage.attach(controls)
    stage.open()
    try:
        yield stage
    finally:
        stage.close()
        stage.close()


def track(tracker, frames):
    """What a tracker finds that is opened for these frames."""
    with opened(tracker):
        return [tracker.track(frame) for frame in frames]


def clip_frames(name, first, count):
    """Frames of a shared clip. The pictures belong to others too: nobody may draw in them."""
    with opened(VideoFileSource(VideoFileSource.Options(path=shared(name)))) as source:
        frames = [source.read() for _ in range(first + count)][first:]
    for frame in frames:
        frame.image.setflags(write=False)
    return frames


class Idle:
    """Of a stage that takes nothing and gives nothing back."""

    def open(self):
        pass

    def close(self):
        pass


class Still:
    """Carries a pose over unchanged; remembers how often it began anew."""

    def __init__(self):
        self.resets, self.nobody = 0, 0

    def retarget(self, pose, time_s):
        self.nobody += pose is None
        return pose

    def reset(self):
        self.resets += 1


class Slow(stages.Synthesizer):
    """Takes a while for each picture, also to open, and is told on which threads it lives."""

    def __init__(self, pause_s=0.0, colour=120, opening=lambda: None):
        self.pause_s, self.colour, self.opening, self.threads = pause_s, colour, opening, set()

    def open(self):
        self.threads.add(threading.get_ident())
        self.opening()

    def synthesize(self, pose):
        self.threads.add(threading.get_ident())
        time.sleep(self.pause_s)
        person = np.full((512, 512, 4), self.colour, np.uint8)
        person[..., 3] = 255
        return person

    def close(self):
        self.threads.add(threading.get_ident())


class Collector(stages.Sink):
    def __init__(self, pause_s=0.0):
        self.frames, self.pause_s, self.delays_s = [], pause_s, []
        self.closed = self.discarded = 0
        self.threads = set()

    def open(self):
        self.threads.add(threading.get_ident())

    def write(self, frame):
        self.threads.add(threading.get_ident())
        time.sleep(self.pause_s)
        small = frame.image[:1, :1]
        self.frames.append(dataclasses.replace(frame, image=small, driver=None, alpha=None, person=None))
        self.delays_s.append(time.monotonic() - frame.time_s)

    def close(self):
        self.threads.add(threading.get_ident())
        self.closed += 1

    def discard(self):
        self.discarded += 1


class Window(Collector):
    on_main_thread = True


class Tracking(Idle, stages.Tracker):
    """Gives the pose that the frame has; takes its time."""

    def __init__(self, pause_s=0.0, fail_at=None, error=None):
        self.pause_s, self.fail_at, self.error = pause_s, fail_at, error or TrackerError("it broke")
        self.closed = 0

    def track(self, frame):
        time.sleep(self.pause_s)
        if self.fail_at is not None and frame.index >= self.fail_at:  # live, a single one may be dropped
            self.failed_at = frame.index
            raise self.error
        return frame.pose

    def close(self):
        self.closed += 1


class Asking(Collector):
    """Asks for something at some frames, and looks at what it is told."""

    def __init__(self, wishes):
        super().__init__()
        self.wishes, self.told = wishes, []

    def attach(self, controls):
        self.controls = controls

    def write(self, frame):
        super().write(frame)
        self.told.append(self.controls.status)
        for wish in self.wishes.get(len(self.frames), ()):
            self.controls.ask(wish)


class Until(Asking):
    """Ends the run some frames after something was told."""

    def __init__(self, words, frames=5):
        super().__init__({})
        self.words, self.left = words, frames

    def write(self, frame):
        super().write(frame)
        self.left -= any(self.words in message for message in self.told[-1].messages)
        if self.left == 0:
            self.controls.ask(Wish.QUIT)


def make_pipeline(
    sinks,
    live=False,
    frames=30,
    fps=30.0,
    synthesizer=None,
    tracker=None,
    source=None,
    retargeter=None,
    **more,
):
    options = SyntheticSource.Options(live=live, frames=frames, fps=fps, width=32, height=24)
    cast = Cast("one", retargeter or Still(), synthesizer or Slow())
    outputs = [sink if isinstance(sink, Output) else Output(sink, f"o{k}") for k, sink in enumerate(sinks)]
    return Pipeline(source or SyntheticSource(options), tracker, cast, Composer(), outputs, **more)


def avatar_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("avatar-")]
