"""Threads: live drops frames but not order or freshness, offline loses nothing, and every end leaves order."""

import gc
import os
import platform
import signal
import threading
import time
import weakref

import numpy as np
import pytest
from support.outward import said_by
from support.stages import Asking, Collector, Slow, Still, Tracking, Window, avatar_threads, make_pipeline
from support.waiting import wait_until

from avatar_stream import errors
from avatar_stream.controls import Controls, Wish
from avatar_stream.errors import EndOfStream, OutputClosed, SinkError
from avatar_stream.handover import Handover, ShutDown, Turns
from avatar_stream.running import runner
from avatar_stream.running.meter import Meter, QualityGovernor, Worker
from avatar_stream.running.pipeline import Cast, Output


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not avatar_threads()


def test_a_file_loses_nothing_and_keeps_its_order():
    fast, slow = Collector(), Collector(0.005)
    report = runner.run(make_pipeline([fast, slow], frames=40, tracker=Tracking(0.002)))
    for sink in (fast, slow):
        assert [frame.index for frame in sink.frames] == list(range(40))
        assert [frame.time_s for frame in sink.frames] == pytest.approx(np.arange(40) / 30)
        assert (sink.closed, sink.discarded) == (1, 0)
    assert report.frames == report.with_signer == 40 and not report.interrupted and report.dropped == {}


def test_live_the_newest_wins_and_delay_does_not_grow():
    sink = Collector()
    report = runner.run(make_pipeline([sink], live=True, frames=60, fps=60, synthesizer=Slow(0.05)))
    indices = [frame.index for frame in sink.frames]
    assert indices == sorted(set(indices)) and len(indices) < 50
    assert sum(report.dropped.values()) > 10
    # Three stages hold a frame each; a queue would be two seconds behind at the end, and would have dropped nothing.
    late = np.median(sink.delays_s[len(sink.delays_s) // 2 :])
    assert late < np.median(sink.delays_s) + 0.5


def test_a_slow_output_does_not_slow_the_others():
    window, slow = Window(), Collector(0.2)
    runner.run(make_pipeline([window, slow], live=True, frames=40, fps=40))
    assert len(window.frames) > 3 * len(slow.frames) and slow.frames
    assert window.threads == {threading.get_ident()}


def test_every_stage_lives_on_one_thread():
    synthesizer, sinks = Slow(), [Collector(), Collector(), Window()]
    runner.run(make_pipeline(sinks, synthesizer=synthesizer))
    homes = [synthesizer.threads, *(sink.threads for sink in sinks)]
    assert all(len(home) == 1 for home in homes) and len(set.union(*homes)) == 4
    assert sinks[2].threads == {threading.get_ident()}


@pytest.mark.parametrize("live", [False, True])
def test_the_first_error_comes_out_with_its_place(live):
    tracker, sink = Tracking(fail_at=7), Collector()
    with pytest.raises(errors.TrackerError, match="it broke") as caught:
        runner.run(make_pipeline([sink], live=live, fps=100, tracker=tracker))
    assert caught.value.__notes__ == [f"in stage 'tracker', frame {tracker.failed_at}"]
    assert live or tracker.failed_at == 7
    assert tracker.closed == 1 and all(frame.index < tracker.failed_at for frame in sink.frames)
    # A live recording that was going well until then is worth keeping; half a file of a clip is not.
    assert (sink.closed, sink.discarded) == ((1, 0) if live else (0, 1))


def test_an_error_of_any_kind_comes_out():
    with pytest.raises(ZeroDivisionError):
        runner.run(make_pipeline([Collector()], tracker=Tracking(fail_at=3, error=ZeroDivisionError("oh"))))


class Broken(Collector):
    def __init__(self, at=3, opening=False):
        super().__init__()
        self.at, self.opening = at, opening

    def open(self):
        if self.opening:
            raise SinkError("no room")

    def write(self, frame):
        if len(self.frames) == self.at:
            raise SinkError("disk full")
        super().write(frame)


def test_live_goes_on_without_an_output_that_fails():
    good, bad = Collector(), Broken()
    report = runner.run(make_pipeline([good, bad], live=True, frames=30, fps=60))
    assert report.failures == ("disk full",) and good.frames[-1].index == 29 and bad.closed == 1


@pytest.mark.parametrize("sinks, live", [((Broken,), True), ((Collector, Broken), False)])
def test_an_output_that_fails_is_an_error_where_nothing_else_is_asked_for(sinks, live):
    with pytest.raises(SinkError, match="disk full"):
        runner.run(make_pipeline([sink() for sink in sinks], live=live, fps=100))


@pytest.mark.parametrize("kind", [Broken, type("BrokenWindow", (Broken,), {"on_main_thread": True})])
def test_only_an_optional_output_may_fail_to_open(kind):
    good, bad = Collector(), kind(opening=True)
    with pytest.raises(SinkError, match="no room"):
        runner.run(make_pipeline([good, bad]))
    runner.run(make_pipeline([Output(kind(opening=True), "bad", optional=True), good]))
    assert len(good.frames) == 30


def test_nothing_heavy_is_opened_after_a_wrong_name(monkeypatch):
    synthesizer = Slow()
    pipeline = make_pipeline([Collector()], synthesizer=synthesizer)
    broken = errors.SourceError("no such clip")
    monkeypatch.setattr(pipeline.source, "open", lambda: (_ for _ in ()).throw(broken))
    with pytest.raises(errors.SourceError):
        runner.run(pipeline)
    assert not synthesizer.threads


def test_a_closed_window_ends_the_run():
    class Closed(Window):
        def write(self, frame):
            super().write(frame)
            if len(self.frames) == 5:
                raise OutputClosed

    window, other = Closed(), Collector()
    report = runner.run(make_pipeline([window, other], live=True, frames=None, fps=100))
    assert len(window.frames) == 5 and other.frames and report.failures == ()


def test_the_second_ctrl_c_breaks_off_what_is_being_loaded():
    loading, go_on = threading.Event(), threading.Event()

    def load():
        loading.set()
        go_on.wait(30)

    def press_twice():
        loading.wait(20)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    presser, sink = threading.Thread(target=press_twice), Collector()
    presser.start()
    begun_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runner.run(make_pipeline([sink], live=True, frames=None, synthesizer=Slow(opening=load)))
    assert time.monotonic() - begun_s < 20 and sink.closed == 1, "nobody waits for the networks"
    go_on.set()
    presser.join()
    wait_until(lambda: not avatar_threads(), 10)


def test_seconds_end_it():
    begun_s = time.monotonic()
    report = runner.run(make_pipeline([Collector()], live=True, frames=None), seconds=0.3)
    assert report.frames > 2 and time.monotonic() - begun_s < 10


def test_a_window_shows_the_camera_until_the_avatar_is_there():
    window, other = Window(), Collector()
    loading = Slow(colour=255, opening=lambda: time.sleep(0.4))
    runner.run(make_pipeline([window, other], live=True, frames=40, fps=50, synthesizer=loading))
    first, last = window.frames[0].image[0, 0], window.frames[-1].image[0, 0]
    assert tuple(first) != (255, 255, 255) and tuple(last) == (255, 255, 255)
    assert all(tuple(frame.image[0, 0]) == (255, 255, 255) for frame in other.frames), "only in windows"


def test_wishes_are_answered():
    synthesizers, recording = {"one": Slow(colour=10), "two": Slow(colour=200)}, Collector()
    sink = Asking({
        2: [Wish.NEXT_AVATAR, Wish.CALIBRATE], 20: [Wish.RECORD], 40: [Wish.RECORD, Wish.FREEZE], 90: [Wish.QUIT]
    })  # fmt: skip
    pipeline = make_pipeline(
        [sink], live=True, frames=None, fps=100, synthesizer=synthesizers["one"],
        recast=lambda name, current: Cast(name, Still(), synthesizers[name]),
        avatars=["one", "two"],
        new_recording=lambda: Output(recording, "recording"),
    )  # fmt: skip
    runner.run(pipeline)
    tones = [int(frame.image[0, 0, 0]) for frame in sink.frames]
    assert tones[0] < tones[-1], "another avatar"
    assert 5 < len(recording.frames) < 60 and recording.closed == 1
    assert any(status.recording for status in sink.told) and sink.told[-1].frozen
    assert sink.told[-1].avatar == "two" and sink.told[-1].fps > 0 and sink.told[-1].p95_ms > 0
    assert len(synthesizers["one"].threads) == len(synthesizers["two"].threads) == 1


def test_after_a_recording_that_cannot_begin_the_next_wish_begins_another():
    good, sink = Collector(), Asking({10: [Wish.RECORD], 60: [Wish.RECORD], 120: [Wish.QUIT]})
    sinks = iter([Broken(opening=True), good])
    new = {"new_recording": lambda: Output(next(sinks), "recording")}
    pipeline = make_pipeline([sink], live=True, frames=None, fps=100, **new)
    report = runner.run(pipeline)
    assert good.frames and sink.told[-1].recording and report.failures == ("no room",)


def test_recordings_that_have_ended_leave_nothing_but_their_count():
    sink, recordings = Asking({10 * k: [Wish.RECORD] for k in range(1, 11)} | {110: [Wish.QUIT]}), []
    first_is_gone = []

    def record():
        gc.collect()
        first_is_gone.append(bool(recordings) and recordings[0]() is None)
        recording = Collector(pause_s=0.05)  # slower than the source: it drops frames
        recordings.append(weakref.ref(recording))
        return Output(recording, f"recordings/{len(recordings)}.mp4")

    report = runner.run(make_pipeline([sink], live=True, frames=None, fps=100, new_recording=record))
    assert len(recordings) == 5 and first_is_gone[-1], "long before the last begins"
    assert set(report.stages) <= {"retargeter", "synthesizer", "composer", "output o0", "output recording"}
    counts = [status.dropped.get("render-recording", 0) for status in sink.told]
    assert counts == sorted(counts) and report.dropped["render-recording"] > 10, "all of them together"


def test_measurements_of_a_long_run_take_no_more_memory(monkeypatch):
    monkeypatch.setattr("avatar_stream.running.meter._KEPT", 100)
    meter, begun_s = Meter(), time.monotonic()
    for index in range(250):
        meter.add("tracker", index / 1000)
        meter.deliver(begun_s)
    kept = meter.stages()["tracker"]
    assert kept[:, 1] == pytest.approx(np.arange(150, 250)) and (np.diff(kept[:, 0]) >= 0).all()
    assert meter.delays().shape == (100, 2)
    assert meter.recent_stages() == {"tracker": pytest.approx(199.5)}
    fps, delay_ms, p95_ms = meter.recent()
    assert fps > 25 and 0 <= delay_ms <= p95_ms


HEAPS = """
    import ctypes
    from avatar_stream.running import runner
    from support.stages import Collector, make_pipeline

    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    for live in eval(sys.argv[2]):
        runner.run(make_pipeline([Collector() for _ in range(6)], live=live, frames=20, fps=100))
    file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps are glibc's")
def test_the_threads_of_a_live_run_share_two_heaps(tmp_path, monkeypatch):
    # Heaps of their own grow for hours; in a process of its own, for whoever was first decides.
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    counts = []
    for runs in ([True, True], [False]):
        said_by(HEAPS, told := tmp_path / "heaps.xml", runs)
        counts.append(told.read_text().count("<heap nr="))
    assert counts[0] <= 2 < counts[1]


HOLES = """
    import time
    import psutil
    from avatar_stream.running.memory import Heaps

    heaps, process = Heaps(), psutil.Process()
    kept = [bytearray(60_000) for _ in range(3000)][::50]
    before_mb = process.memory_info().rss / 2**20
    heaps.tidy(time.monotonic())
    soon_mb = process.memory_info().rss / 2**20
    heaps.tidy(time.monotonic() + 100)
    print(before_mb, soon_mb, process.memory_info().rss / 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps are glibc's")
def test_what_is_free_between_things_that_stay_is_given_back_now_and_then():
    before_mb, soon_mb, after_mb = map(float, said_by(HOLES).split())
    assert after_mb < before_mb - 100 and soon_mb > before_mb - 20, "not at once, it costs milliseconds"


def test_an_avatar_that_cannot_be_had_is_told_and_the_old_one_stays(monkeypatch):
    def recast(name, current):
        raise errors.AvatarStreamError("no portrait")

    workers = []
    monkeypatch.setattr(runner, "Worker", lambda meter: workers.append(Worker(meter)) or workers[-1])
    sink = Asking({2: [Wish.NEXT_AVATAR], 80: [Wish.QUIT]})
    runner.run(make_pipeline([sink], live=True, frames=None, fps=100, recast=recast, avatars=["one", "two"]))
    assert sink.told[-1].avatar == "one" and "no portrait" in sink.told[-1].messages
    assert workers and not any(worker.opening for worker in workers), "else its silence is never told again"


def test_a_stage_that_failed_is_not_said_to_be_at_work():
    worker = Worker(Meter())
    with pytest.raises(SinkError), worker.during("output x"):
        raise SinkError("gone")
    assert worker.since_s is None


def test_networks_are_loaded_beside_each_other_and_the_wait_counts_no_drops():
    meeting = threading.Barrier(2, timeout=20)

    class LoadingTracker(Tracking):
        def open(self):
            meeting.wait()

    def load():
        meeting.wait()  # fails unless both are being opened at one time
        time.sleep(0.4)

    sink = Collector()
    networks = {"synthesizer": Slow(opening=load), "tracker": LoadingTracker()}
    pipeline = make_pipeline([sink], live=True, frames=60, fps=50, **networks)
    report = runner.run(pipeline)
    first = sink.frames[0].index
    assert first > 10, "the first picture shown is a new one: 20 came while the model was loading"
    assert sum(report.dropped.values()) <= 60 - first - len(sink.frames) + 3, "and they are not counted"


def test_a_file_s_first_frame_waits_for_the_synthesizer_and_is_not_lost():
    sink, loading = Collector(), Slow(opening=lambda: time.sleep(0.2))
    runner.run(make_pipeline([sink], frames=10, synthesizer=loading, tracker=Tracking()))
    assert [frame.index for frame in sink.frames] == list(range(10))


def test_measuring_anew_reaches_the_retargeter():
    sink = Asking({3: [Wish.CALIBRATE], 20: [Wish.QUIT]})
    pipeline = make_pipeline([sink], live=True, frames=None, fps=100)
    runner.run(pipeline)
    assert pipeline.cast.retargeter.resets == 1


def test_a_source_that_is_silent_is_named_and_the_avatar_rests(monkeypatch, caplog):
    monkeypatch.setattr(runner, "_SILENT_LIVE_S", 0.3)
    monkeypatch.setattr(runner, "_STARVED_S", 0.05)
    sink = Asking({})
    pipeline = make_pipeline([sink], live=True, frames=None, fps=100)
    read, stopped = pipeline.source.read, threading.Event()

    def silent():
        if pipeline.source._index == 10:
            stopped.wait(20)
            raise EndOfStream
        return read()

    pipeline.source.read, pipeline.source.stop = silent, stopped.set
    controls = Controls()
    threading.Timer(1.5, controls.ask, [Wish.QUIT]).start()
    runner.run(pipeline, controls)
    assert pipeline.cast.retargeter.nobody > 3, "it goes to rest"
    assert any("source: nothing for" in message for status in sink.told for message in status.messages)
    assert sum("silent" in record.getMessage() for record in caplog.records) == 1, "logged once"


def test_a_thread_that_hangs_is_an_error_with_its_name(monkeypatch):
    from avatar_stream.running import crew

    monkeypatch.setattr(crew, "_STOP_S", 0.2)
    pipeline, released = make_pipeline([Collector()], live=True, frames=None), threading.Event()
    read = pipeline.source.read
    pipeline.source.read = lambda: read() if pipeline.source._index < 2 else released.wait(20)
    with pytest.raises(errors.AvatarStreamError, match="source"):
        runner.run(pipeline, seconds=0.5)
    released.set()
    wait_until(lambda: not avatar_threads(), 5)


def test_handover_live_overwrites_and_counts():
    handover = Handover("x", live=True)
    assert handover.get(0.0) is None
    assert all(handover.put(k) for k in range(5))
    assert handover.get() == 4 and handover.dropped == 4
    handover.end()
    assert not handover.put(9)
    with pytest.raises(ShutDown):
        handover.get()


def test_handover_offline_waits_and_hands_out_what_is_left():
    handover = Handover("x", live=False)
    for k in range(4):
        handover.put(k)
    blocked = threading.Thread(target=handover.put, args=(4,))
    blocked.start()
    blocked.join(0.05)
    assert blocked.is_alive(), "it waits for a place"
    assert handover.get() == 0
    blocked.join(5)
    handover.end()
    assert [handover.get() for _ in range(4)] == [1, 2, 3, 4] and handover.dropped == 0
    with pytest.raises(ShutDown):
        handover.get()


def test_an_aborted_handover_wakes_who_waits():
    handover = Handover("x", live=False)
    for k in range(4):
        handover.put(k)
    results = []
    blocked = threading.Thread(target=lambda: results.append(handover.put(4)))
    blocked.start()
    handover.abort()
    blocked.join(5)
    assert results == [False]


def test_turns_go_in_order():
    turns, order = Turns(), []

    def take(k):
        turns.wait(k)
        order.append(k)
        turns.done(k)

    threads = [threading.Thread(target=take, args=(k,)) for k in (3, 1, 2, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert order == [0, 1, 2, 3]


def drive(governor, start_s, seconds, made_fps, source_fps=30):
    """Let frames finish at one rate while the source gives another; returns the levels on the way."""
    levels = []
    for k in range(round(seconds * made_fps)):
        now_s = start_s + k / made_fps
        levels.append(governor.update(now_s, round(now_s * source_fps)))
    return levels


def test_quality_goes_down_when_slow_and_comes_back():
    governor = QualityGovernor(3)
    assert set(drive(governor, 0, 10, 30)) == {0}
    assert drive(governor, 10, 6, 14)[-1] == 1
    assert drive(governor, 16, 12, 14)[-1] == 2, "one level at a time, and not below the last"
    assert drive(governor, 28, 30, 30)[-1] == 0


@pytest.mark.parametrize(
    "seconds, made_fps, source_fps, level",
    [(8, 23, 30, 1), (8, 22, 25, 1), (20, 0.3, 30, 1), (20, 25.5, 30, 0), (20, 25, 25, 0), (20, 12, 12, 0)],
)
def test_quality_goes_before_the_frame_rate_and_not_for_more_than_signing_needs(
    seconds, made_fps, source_fps, level
):
    """Signing needs 25 frames a second, of a source that gives so many; the slowest machines get help too."""
    levels = drive(QualityGovernor(2), 0, seconds, made_fps, source_fps)
    assert levels[-1] == level and (level or not any(levels))


def test_a_step_up_that_does_not_hold_is_tried_less_often():
    governor, levels, now_s = QualityGovernor(2), [], 0.0
    for _ in range(2400):  # full quality gives 14 fps, one step down 28
        now_s += 1 / 14 if governor.level == 0 else 1 / 28
        levels.append((now_s, governor.update(now_s, round(now_s * 30))))
    pairs = zip(levels[1:], levels, strict=False)
    steps = [time_s for (time_s, level), (_, before) in pairs if level < before]
    assert len(steps) >= 3 and steps[2] - steps[1] > 1.5 * (steps[1] - steps[0])
