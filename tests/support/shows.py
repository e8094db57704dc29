"""Shows: a signer whose picture says its time, and an output that keeps when what came."""

import dataclasses
import time

import numpy as np

from avatar_stream import stages
from avatar_stream.running.show.options import signer_side_px
from support.programmes import SIZE, draw_number, read_number
from support.stages import Idle, Still, make_pipeline


class Timed(Still):
    """Hands the frame's time on to the synthesizer, as a retargeter hands on the pose; nobody: the last one."""

    last = None

    def retarget(self, pose, time_s):
        self.last = pose or self.last
        return dataclasses.replace(self.last, time_s=time_s)


class Numbered(Idle, stages.Synthesizer):
    """Draws a signer whose picture says, in hundredths of a second, which moment it belongs to."""

    def __init__(self, pause_s=0.0, start_s=0.0):
        self.pause_s, self.start_s = pause_s, start_s

    def synthesize(self, pose):
        time.sleep(self.pause_s)
        person = np.zeros((512, 512, 4), np.uint8)
        person[100:, 30:482] = (150, 60, 60, 255)
        draw_number(person, round(100 * (pose.time_s - self.start_s)) % 4096, 40, 300, 36)
        return person


def make_show(sinks, show, live=False, frames=100, fps=25.0, synthesizer=None, **more):
    more |= {"show": show, "retargeter": Timed(), "synthesizer": synthesizer or Numbered()}
    return make_pipeline(sinks, live, frames, fps, **more)


def signer_number(image, show, size=SIZE):
    """What the signer in the picture's lower right corner says."""
    side_px = signer_side_px(show, *size)
    scale = side_px / 512
    return read_number(image, size[0] - side_px + 40 * scale, size[1] - side_px + 300 * scale, 36 * scale)


class Collector(Idle, stages.Sink):
    """An output that keeps when each frame and sound came, and what `look` sees in it."""

    def __init__(self, look=None):
        self.look, self.frames, self.sounds, self.statuses = look, [], [], []

    def attach(self, controls):
        self.controls = controls

    def write(self, frame):
        self.frames.append((time.monotonic(), frame.time_s, self.look(frame) if self.look else None))
        self.statuses.append(self.controls.status)

    def hear(self, sound):
        self.sounds.append((time.monotonic(), sound.time_s, sound.samples))

    @property
    def delays_ms(self):
        return 1000 * np.array([came_s - time_s for came_s, time_s, _ in self.frames])
