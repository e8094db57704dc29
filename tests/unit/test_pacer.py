"""When what leaves, on a clock of the test's own: to the microsecond, and without waiting."""

import dataclasses

import numpy as np
import pytest
from support.people import make_upright_pose

from avatar_stream.controls import Status
from avatar_stream.images.compose import Composer
from avatar_stream.running.meter import Meter, Worker
from avatar_stream.running.pacer import Pacer
from avatar_stream.running.pipeline import RenderedFrame
from avatar_stream.running.punctuality import Punctuality
from avatar_stream.types import Frame

STEP_S = 0.04


class Clock:
    """Goes on only while somebody waits, or where the test says so."""

    def __init__(self, now_s=1000.0):
        self.now_s = now_s

    def __call__(self):
        return self.now_s

    def wait(self, _, seconds):
        self.now_s += seconds


def rendered(time_s, index):
    frame = Frame(np.zeros((4, 4, 3), np.uint8), time_s, index)
    return RenderedFrame(frame, make_upright_pose(), frame)


def leave(clock, target_ms, frames, busy_s=0.0):
    """Let frames through a pacer that puts them out in `busy_s` each; (index, when it left, capture time)."""
    left = []

    def put(item):
        left.append((item.shown.index, clock(), item.shown.time_s))
        clock.now_s += busy_s

    pacer = Pacer(target_ms, None, Composer.Options(), True, put, clock, clock.wait)
    for index, time_s in enumerate(frames):
        pacer.take(rendered(time_s, index))
    pacer.end()
    pacer.run(Worker(Meter()))
    return left, pacer


def test_everything_leaves_exactly_at_the_target_and_in_order():
    clock = Clock()
    times_s = clock() + STEP_S * np.arange(40) + np.random.default_rng(1).uniform(0, 0.02, 40)
    left, pacer = leave(clock, 300, times_s)
    assert [index for index, *_ in left] == list(range(40))
    assert [left_s - time_s for _, left_s, time_s in left] == pytest.approx(np.full(40, 0.3), abs=1e-6)
    status = pacer.add_to(Status())
    assert status.target_delay_ms == 300 and status.left_ms == pytest.approx(300, abs=1e-3)
    assert status.spread_ms == pytest.approx(0, abs=1e-3) and status.late == 0 and not status.messages


def test_after_outputs_that_were_busy_it_catches_up():
    clock = Clock()
    times_s = clock() + STEP_S * np.arange(20)
    left, _ = leave(clock, 300, times_s, busy_s=0.02)
    delays_s = np.array([left_s - time_s for _, left_s, time_s in left])
    assert delays_s == pytest.approx(np.full(20, 0.3), abs=1e-6), "half the time is enough: nothing adds up"


def test_a_target_that_is_too_short_is_told_with_one_that_is_enough():
    clock = Clock()
    pace = Punctuality(20, clock)
    for _ in range(60):
        captured_s = clock()
        clock.now_s += 0.05
        pace.came(captured_s)
    status = pace.add_to(dataclasses.replace(Status(), messages=("something else",)))
    told = [text for text in status.messages if "too short" in text]
    assert status.late == 60 and "something else" in status.messages
    assert told and told[0].endswith("set target_delay_ms to 100 or more"), "a tenth more than 50, rounded up"


def test_a_single_late_frame_is_counted_and_warns_nobody():
    clock = Clock()
    pace = Punctuality(100, clock)
    for index in range(60):
        captured_s = clock()
        clock.now_s += 0.2 if index == 30 else 0.04
        pace.came(captured_s)
    status = pace.add_to(Status())
    assert status.late == 1 and status.messages == ()
