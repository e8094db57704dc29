"""Shows: a signer whose picture says its time, and an output that keeps when what came."""

import dataclasses
import time

import numpy as np

from avatar_stream import stages
from avatar_stream.images.compose import Composer
from avatar_stream.running.pipeline import Cast, Output, Pipeline
from avatar_stream.running.show.options import signer_side_px
from avatar_stream.sources.synthetic import SyntheticSource
from support.programmes import SIZE, draw_number, read_number


class Timed:
    """Hands the frame's time on to the synthesizer, as a retargeter hands on the pose; nobody: the last one."""

    last = None

    def retarget(self, pose, time_s):
        self.last = pose or self.last
        return dataclasses.replace(self.last, time_s=time_s)

    def reset(self):
        pass


class Numbered(stages.Synthesizer):
    """Draws a signer whose picture says, in hundredths of a second, which moment it belongs to."""

    def __init__(self, pause_s=0.0, start_s=0.0):
        self.pause_s, self.start_s = pause_s, start_s

    def open(self):
        pass

    def synthesize(self, pose):
        time.sleep(self.pause_s)
        person = np.zeros((512, 512, 4), np.uint8)
        person[100:, 30:482] = (150, 60, 60, 255)
        draw_number(person, round(100 * (pose.time_s - self.start_s)) % 4096, 40, 300, 36)
        return person

    def close(self):
        pass


def make_show(sinks, show, live=False, frames=100, fps=25.0, synthesizer=None, **more):
    options = SyntheticSource.Options(live=live, frames=frames, fps=fps, width=32, height=24)
    outputs = [Output(sink, f"o{place}") for place, sink in enumerate(sinks)]
    cast = Cast("one", Timed(), synthesizer or Numbered())
    return Pipeline(SyntheticSource(options), None, cast, Composer(), outputs, show=show, **more)


def signer_number(image, show, size=SIZE):
    """What the signer in the picture's lower right corner says."""
    side_px = signer_side_px(show, *size)
    scale = side_px / 512
    return read_number(image, size[0] - side_px + 40 * scale, size[1] - side_px + 300 * scale, 36 * scale)


class Collector(stages.Sink):
    """An output that keeps when each frame and sound came, and small pictures."""

    def __init__(self, look=None, controls_seen=None):
        self.look, self.frames, self.sounds, self.statuses = look, [], [], []

    def attach(self, controls):
        self.controls = controls

    def open(self):
        pass

    def write(self, frame):
        self.frames.append((time.monotonic(), frame.time_s, self.look(frame) if self.look else None))
        self.statuses.append(self.controls.status)

    def hear(self, sound):
        self.sounds.append((time.monotonic(), sound.time_s, sound.samples))

    def close(self):
        pass

    @property
    def delays_ms(self):
        return 1000 * np.array([came_s - time_s for came_s, time_s, _ in self.frames])
