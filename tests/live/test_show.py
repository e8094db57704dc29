"""Beside a show: programme, signer and sound stay together, in a file and live, and a crew is told what is wrong."""

import dataclasses
import re
import time

import numpy as np
import psutil
import pytest
from support.outward import free_port, running
from support.people import make_upright_pose
from support.programmes import FPS, SIZE, beginnings_s, read_back, read_number, write_programme
from support.provenance import read_source_type
from support.shows import Collector, Numbered, make_show, signer_number
from support.stages import opened
from support.stations import needs_srt
from support.waiting import wait_until

from avatar_stream.clocks import ArrivalClock
from avatar_stream.controls import Setting, Wish
from avatar_stream.errors import ConfigError, SourceError
from avatar_stream.images.compose import Composer
from avatar_stream.provenance import COMPOSITE
from avatar_stream.running import runner
from avatar_stream.running.config import ProblemsError, check_pipeline
from avatar_stream.running.meter import Meter, Worker
from avatar_stream.running.pacer import Pacer
from avatar_stream.running.pipeline import Output, RenderedFrame, build_pipeline
from avatar_stream.running.show.options import ShowOptions, signer_side_px
from avatar_stream.running.show.programme import Programme
from avatar_stream.running.show.sound_line import SoundLine
from avatar_stream.running.show.vision import InVision
from avatar_stream.sinks.video_file import VideoFileSink
from avatar_stream.stages import Context
from avatar_stream.types import Frame, Sound

ONE_FRAME_S = 1 / FPS


def test_a_recorded_show_keeps_every_picture_with_the_signer_and_the_sound_of_its_moment(tmp_path):
    show = ShowOptions(source=str(write_programme(tmp_path / "programme.mp4")))
    path = tmp_path / "show.mp4"
    sink = VideoFileSink(VideoFileSink.Options(path=path), Context(sound=True))
    # The signer's own clip has another rate: 20 pictures a second.
    runner.run(make_show([sink], show, frames=80, fps=20.0))
    pictures, sound = read_back(path)
    assert [read_number(image, 16, 16) for _, image in pictures] == list(range(4 * FPS))
    for index, (time_s, image) in enumerate(pictures):
        assert time_s == pytest.approx(index / FPS, abs=1e-3)
        # Hundredths: the newest of the signer's frames, not a later one.
        newest = 5 * int(100 * time_s / 5 + 1e-6)
        assert signer_number(image, show) == newest, time_s
    for second, begin_s in enumerate(beginnings_s(sound)):
        assert begin_s == pytest.approx(second, abs=ONE_FRAME_S / 2)
    assert len(beginnings_s(sound)) == 4


def test_live_without_a_programme_nothing_leaves_before_the_target_delay():
    sink = Collector()
    report = runner.run(make_show([sink], None, live=True, frames=20, target_delay_ms=300))
    # Also what was on its way at the end.
    assert len(sink.frames) + report.dropped["render-o0"] == report.frames
    assert sink.delays_ms.min() >= 299
    status = sink.statuses[-1]
    assert status.target_delay_ms == 300 and status.left_ms >= 299 and status.spread_ms > 0


def test_live_beside_a_file_each_picture_leaves_at_the_target_with_the_signer_of_its_moment(tmp_path):
    show = ShowOptions(source=str(write_programme(tmp_path / "programme.mp4", 3.0)))
    start_s = time.monotonic()
    sink = Collector(lambda frame: (read_number(frame.image, 16, 16), signer_number(frame.image, show)))
    report = runner.run(make_show([sink], show, True, None, 25.0, Numbered(0, start_s), target_delay_ms=400))
    assert not report.interrupted  # the programme's end ends it
    assert sink.delays_ms.min() >= 399
    check_moments(sink, start_s)


def check_moments(sink, start_s):
    numbers = [look[0] for *_, look in sink.frames]
    assert numbers == sorted(numbers) and numbers[-1] == 3 * FPS - 1 and -1 not in numbers
    times_s = np.array([time_s for _, time_s, _ in sink.frames])
    begin_s = np.median(times_s - np.array(numbers) / FPS)
    behind_s = [time_s - start_s - look[1] / 100 for _, time_s, look in sink.frames]
    assert min(behind_s) > -0.011  # never a later signer
    assert np.median(behind_s) <= 2 * ONE_FRAME_S
    assert min(came_s - time_s for came_s, time_s, _ in sink.sounds) > 0.379  # a block of 20 ms is not cut
    heard_s = np.array(beginnings_s(np.concatenate([samples for *_, samples in sink.sounds])))
    heard_s += sink.sounds[0][1] - begin_s
    assert len(heard_s) and np.abs(heard_s - np.round(heard_s)).max() <= ONE_FRAME_S


@pytest.mark.parametrize("size", [(1280, 720), (640, 480), (720, 1280), (2560, 1080)])
def test_the_signer_takes_a_sixth_of_the_picture_by_default(size):
    side_px = signer_side_px(ShowOptions(source="x.mp4"), *size)
    assert side_px**2 >= size[0] * size[1] / 6 and side_px <= min(size)


def signer_frame(synthetic=True):
    person = np.zeros((512, 512, 4), np.uint8)
    person[200:, 100:400] = (200, 30, 30, 255)
    return Frame(np.zeros((512, 512, 3), np.uint8), 0.0, 0, person=person, synthetic=synthetic)


@pytest.mark.parametrize("corner", ["bottom-right", "bottom-left", "top-right", "top-left"])
def test_signer_plate_and_margin_are_where_they_were_asked_for(corner):
    options = ShowOptions(source="x.mp4", corner=corner, size=0.5, margin=0.1, plate="#0000ff")
    vision = InVision(options, SIZE, Composer.Options(label=None))
    programme = np.full((SIZE[1], SIZE[0], 3), (20, 180, 20), np.uint8)
    image = vision.compose(signer_frame(), programme.copy(), 0.0, 0).image
    left, top, side_px = vision.square
    assert side_px == 180
    assert left == (640 - 180 - 36 if corner.endswith("right") else 36)
    assert top == (360 - 180 - 36 if corner.startswith("bottom") else 36)
    outside = np.ones(image.shape[:2], bool)
    outside[top : top + side_px, left : left + side_px] = False
    assert (image[outside] == (20, 180, 20)).all()  # the programme is untouched
    assert tuple(image[top + 5, left + 5]) == (0, 0, 255)
    assert tuple(image[top + 150, left + 90]) == (200, 30, 30)


def test_the_label_is_in_the_picture_only_where_a_person_was_generated():
    vision = InVision(ShowOptions(source="x.mp4"), SIZE, Composer.Options(label="AI-generated"))
    programme = np.full((SIZE[1], SIZE[0], 3), (20, 180, 20), np.uint8)
    both = (signer_frame(True), signer_frame(False))
    images = [vision.compose(frame, programme.copy(), 0.0, 0).image for frame in both]
    assert (images[0][:60, :200] != (20, 180, 20)).any() and (images[1][:60, :200] == (20, 180, 20)).all()


def recorded_numbers(tmp_path, show, seconds=2.0, **more):
    sink = Collector(lambda frame: (read_number(frame.image, 16, 16), signer_number(frame.image, show)))
    runner.run(make_show([sink], show, frames=round(25 * seconds), **more))
    return sink


def test_a_programme_of_few_pictures_does_not_slow_the_signer(tmp_path):
    show = ShowOptions(source=str(write_programme(tmp_path / "slides.mp4", 3.0, sound=False, fps=5)))
    sink = recorded_numbers(tmp_path, show, seconds=3.0)
    times_s = [time_s for _, time_s, _ in sink.frames]
    assert np.diff(times_s) == pytest.approx(np.full(len(times_s) - 1, 0.04), abs=1e-6)
    for time_s, (programme, signer) in zip(times_s, (look for *_, look in sink.frames), strict=True):
        assert programme == int(5 * time_s + 1e-6) and signer == round(100 * time_s)


def test_fewer_pictures_and_another_size_where_they_are_asked_for(tmp_path):
    path = write_programme(tmp_path / "programme.mp4", 2.0, sound=False, fps=50)
    show = ShowOptions(source=str(path), fps=25, width=320, height=320)
    look = lambda image: (image.shape, image[:60].max(), read_number(image, 8, 78, 12))  # noqa: E731
    sink = Collector(lambda frame: look(frame.image))
    runner.run(make_show([sink], show, frames=50))
    shapes, bars, numbers = zip(*(look for *_, look in sink.frames), strict=True)
    assert set(shapes) == {(320, 320, 3)} and max(bars) < 20  # black above: nothing is cut off or stretched
    assert list(numbers) == list(range(0, 100, 2))


def test_a_programme_that_loops_ends_with_the_signer_and_a_longer_one_goes_on(tmp_path):
    path = str(write_programme(tmp_path / "programme.mp4", 1.0))
    looped = recorded_numbers(tmp_path, ShowOptions(source=path, loop=True), seconds=2.4)
    assert [look[0] for *_, look in looped.frames] == [index % 25 for index in range(60)]
    assert len(beginnings_s(np.concatenate([samples for *_, samples in looped.sounds]))) == 3
    longer = recorded_numbers(tmp_path, ShowOptions(source=path), seconds=0.4)
    assert [look[0] for *_, look in longer.frames] == list(range(25))
    assert longer.frames[-1][2][1] == 36  # the signer's last picture stays


def test_two_recordings_of_a_show_are_the_same_to_the_byte(tmp_path):
    show = ShowOptions(source=str(write_programme(tmp_path / "programme.mp4", 1.0)))
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in paths:
        sink = VideoFileSink(VideoFileSink.Options(path=path), Context(sound=True))
        runner.run(make_show([sink], show, frames=25))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_sound_has_no_holes_and_what_comes_late_is_cut():
    line = SoundLine(10.0)
    tone = np.full((1440, 2), 7, np.int16)  # 30 ms
    line.add(Sound(tone, 10.0))
    line.add(Sound(tone, 10.0301))  # an older clock's rounding: it follows on
    line.add(Sound(tone, 10.1))
    blocks = line.take()
    heard = np.concatenate([block.samples[:, 0] for block in blocks])
    assert (heard[:2880] == 7).all() and (heard[2880:4800] == 0).all() and heard[4800] == 7
    assert [block.time_s for block in blocks] == pytest.approx([10 + 0.02 * k for k in range(len(blocks))])
    silent = line.take(until_s=10.2)
    assert silent[-1].time_s == pytest.approx(10.2) and not silent[-1].samples.any()
    line.add(Sound(tone, 10.15))
    assert not line.take()  # that moment has gone


def test_arrivals_say_when_a_live_picture_was_captured():
    random, clock = np.random.default_rng(1), ArrivalClock()
    jitter_s = random.exponential(0.02, 500)
    captured = [clock.capture_s(k / 25, 1000 + k / 25 + jitter_s[k]) for k in range(500)]
    errors_s = np.array(captured) - (1000 + np.arange(500) / 25)
    assert np.abs(errors_s[50:]).max() < 0.015 and np.diff(captured).min() > 0
    later = clock.capture_s(0.0, 2000.0)  # the stream began anew
    assert later == pytest.approx(2000.0)


@pytest.mark.parametrize(
    ("show", "told"),
    [
        ({"source": "gone.mp4"}, "show.source: given 'gone.mp4'; expected a file that exists"),
        ({"source": "ftp://host/x"}, "show.source: given 'ftp://host/x'; expected a file, a camera"),
        ({"source": -1}, "show.source: given -1"),
        ({"source": 0, "plate": "blurple"}, "show.plate: given 'blurple'; expected a colour"),
        ({"source": 0, "corner": "middle"}, "show.corner: given 'middle'"),
        ({"source": 0, "sise": 1}, "show.sise: given 1; unknown key, did you mean 'size'"),
        ({"source": "rtmp://studio:live/x"}, "an address with one of"),
        ({"source": 0, "width": 640}, "width and height: give both or none"),
    ],
)
def test_a_wrong_show_is_told(show, told):
    given = {"avatar": "mei", "source": {"type": "synthetic"}, "outputs": [{"type": "window"}], "show": show}
    with pytest.raises(ProblemsError, match=re.escape(told)):
        check_pipeline(given, "test")


def test_a_live_programme_needs_a_live_signer_and_secrets_are_not_shown():
    given = {"avatar": "mei", "source": {"type": "synthetic", "live": False}, "outputs": [{"type": "window"}]}
    address = "rtmp://user:secret@host:1935/live/secretkey?token=secret"
    with pytest.raises(ConfigError, match="is live, the signer is not") as caught:
        build_pipeline(check_pipeline(given | {"show": {"source": address}}, "test"))
    assert "secret" not in str(caught.value) and "rtmp://host:1935" in str(caught.value)


def test_one_camera_cannot_be_signer_and_programme():
    given = {"avatar": "mei", "outputs": [{"type": "window"}], "show": {"source": 2}}
    with pytest.raises(ConfigError, match="camera 2 is the signer's and the programme's"):
        build_pipeline(check_pipeline(given | {"source": {"type": "webcam", "index": 2}}, "test"))
    build_pipeline(check_pipeline(given | {"source": {"type": "webcam", "index": 1}}, "test"))


def test_a_broken_programme_is_told_before_networks_are_loaded(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    show = ShowOptions(source=str(tmp_path / "broken.mp4"))
    with pytest.raises(SourceError, match="no programme from .*broken.mp4"):
        runner.run(make_show([Collector()], show))


class Crew(Collector):
    """Asks for a recording with its tenth picture."""

    def write(self, frame):
        super().write(frame)
        if len(self.frames) == 10:
            self.controls.ask(Setting(Wish.RECORD, True))


def test_a_recording_made_while_live_has_picture_signer_and_sound_in_step(tmp_path):
    show = ShowOptions(source=str(write_programme(tmp_path / "programme.mp4", 4.0)))
    path = tmp_path / "recording.mp4"
    options = VideoFileSink.Options(path=path, from_zero=True)
    recording = VideoFileSink(options, Context(sound=True, composite=True))
    more = {"target_delay_ms": 300, "new_recording": lambda: Output(recording, "recording")}
    start_s = time.monotonic()
    crew = Crew(lambda frame: read_number(frame.image, 16, 16))
    runner.run(make_show([crew], show, True, None, 25.0, Numbered(0, start_s), **more))
    pictures, sound = read_back(path)
    numbers = [read_number(image, 16, 16) for _, image in pictures]
    assert -1 not in numbers and numbers == sorted(numbers) and numbers[0] > 5 and numbers[-1] == 4 * FPS - 1
    zero_s = np.median([number / FPS - time_s for number, (time_s, _) in zip(numbers, pictures, strict=True)])
    # On the programme's own clock, without one in whose midst the recording began.
    heard_s = np.array([begin_s for begin_s in beginnings_s(sound) if begin_s > 0.1]) + zero_s
    assert len(heard_s) >= 2 and np.abs(heard_s - np.round(heard_s)).max() <= ONE_FRAME_S
    moments_s = {number: time_s - start_s for _, time_s, number in crew.frames}
    both = zip(numbers, pictures, strict=True)
    both = [(moments_s[n], signer_number(image, show)) for n, (_, image) in both if n in moments_s]
    behind_s = [moment_s - hundredths / 100 for moment_s, hundredths in both]
    assert len(both) > 10 and -0.011 < min(behind_s) and np.median(behind_s) <= 2 * ONE_FRAME_S
    assert read_source_type(path) == COMPOSITE


def test_a_machine_that_is_too_slow_drops_pictures_and_the_delay_does_not_grow(tmp_path):
    seconds = 1.5
    show = ShowOptions(source=str(write_programme(tmp_path / "programme.mp4", seconds, sound=False)))
    left = []

    def put(rendered):
        time.sleep(2.2 * ONE_FRAME_S)
        left.append((time.monotonic() - rendered.shown.time_s, read_number(rendered.shown.image, 16, 16)))

    pacer = Pacer(300, show, Composer.Options(), True, put)
    person = signer_frame()
    pose = make_upright_pose()
    signing = dataclasses.replace(person, time_s=time.monotonic())
    pacer.take(RenderedFrame(signing, pose, signing))
    pacer.run(Worker(Meter()))
    assert len(left) < 0.7 * seconds * FPS and left[-1][1] >= seconds * FPS - 4
    # Each picture takes 2.2 times as long as there is: had they queued, the last would be 1.5 s late and more.
    assert np.median([delay_s for delay_s, _ in left[-10:]]) < 0.3 + 0.5


def test_srt_comes_through_ffmpeg_and_its_address_is_in_no_list_of_processes():
    needs_srt()
    port = free_port()
    sending = (
        "ffmpeg -v error -re -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine -t 30 -c:v libx264"
    )
    sending += (
        f" -preset ultrafast -tune zerolatency -g 25 -c:a aac -f mpegts srt://127.0.0.1:{port}?mode=listener"
    )
    programme = Programme(ShowOptions(source=f"srt://127.0.0.1:{port}?mode=caller&streamid=secretword"), 1.0)
    with running(sending.split()), opened(programme):
        assert wait_until(lambda: programme.next_picture_s() is not None, 20)
        assert programme.size == (320, 180) and wait_until(lambda: programme.take_sounds(float("inf")), 5)
        processes = psutil.process_iter(["cmdline"])
        assert not any("secretword" in " ".join(each.info["cmdline"] or ()) for each in processes)


def test_a_programme_that_is_gone_when_it_begins_anew_is_an_error(tmp_path):
    path = write_programme(tmp_path / "programme.mp4", 1.0, sound=False)
    sink = Collector(lambda _: path.unlink(missing_ok=True))
    show = ShowOptions(source=str(path), loop=True)
    with pytest.raises(SourceError, match="no programme from .*programme.mp4"):
        runner.run(make_show([sink], show, True, None, target_delay_ms=100))
    assert len(sink.frames) > 5  # what was there was shown
