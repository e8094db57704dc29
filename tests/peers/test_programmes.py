"""Programmes as they come on the air: addresses of every kind and a capture card; lost, told, and found again."""

import threading
import time

import numpy as np
import psutil
import pytest
from support.cameras import Camera
from support.outward import free_port
from support.programmes import FPS, SIZE, beginnings_s, draw_number, read_number
from support.rtmp import needs_nginx
from support.shows import Collector, Numbered, make_show, signer_number
from support.stations import Hls, Rtmp, Rtsp, Srt, SrtCaller, Tcp, needs_srt
from support.waiting import until

from avatar_stream.clocks import PlayingClock
from avatar_stream.controls import Wish
from avatar_stream.running import runner
from avatar_stream.running.show.options import ShowOptions
from avatar_stream.running.show.programme import Programme

TARGET_MS = 500


class Crew(Collector):
    """Sees what leaves, and ends the run."""

    def __init__(self, show, start_s):
        super().__init__(lambda frame: self.look_at(frame.image))
        self.show, self.start_s = show, start_s

    def look_at(self, image):
        """(hundredths of a second at sending, place in the stream, the signer's hundredths); -1: no programme."""
        size = image.shape[1::-1]
        scale = size[0] / SIZE[0]
        sent, place = (read_number(image, 16 * scale, top * scale, 24 * scale) for top in (16, 64))
        if place == 4095:  # the plain ground before there is any
            sent = place = -1
        return sent, place, signer_number(image, self.show, size)

    def quit(self):
        self.controls.ask(Wish.QUIT)

    @property
    def fresh(self):
        """How many different pictures of the programme have left."""
        return len({look[:2] for *_, look in tuple(self.frames)})

    @property
    def signers(self):
        """What the signers that have left say."""
        return {look[2] for *_, look in tuple(self.frames)}

    @property
    def notices(self):
        return {text for status in tuple(self.statuses) for text in status.messages if "programme:" in text}


def run_beside(show, start_s, work, kind=Crew):
    """Run a show while `work(crew)` happens; returns its crew."""
    crew, failed = kind(show, start_s), []

    def watch():
        try:
            work(crew)
        except AssertionError as error:
            failed.append(error)
        finally:
            crew.quit()

    watcher = threading.Thread(target=watch)
    synthesizer = Numbered(0.002, start_s)
    pipeline = make_show([crew], show, True, None, 25.0, synthesizer, target_delay_ms=TARGET_MS)
    runner.run(pipeline, on_open=watcher.start)
    watcher.join()
    assert not failed, failed[0]
    return crew


@pytest.mark.parametrize("kind", [Tcp, pytest.param(Rtmp, marks=needs_nginx), Srt, SrtCaller, Rtsp, Hls])
def test_an_address_is_followed_lost_told_and_found_again(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("avatar_stream.running.show.feed._SILENT_S", 1.5)
    monkeypatch.setattr("avatar_stream.running.show.feed._SILENT_PLAYLIST_S", 3.0)
    with kind(tmp_path) as station:

        def work(crew):
            until(lambda: crew.fresh > 2.5 * FPS)
            station.end()
            until(lambda: any("its last picture stays" in text for text in crew.notices))
            # The signer goes on, whatever the programme does.
            signers = len(crew.signers)
            until(lambda: len(crew.signers) > signers + FPS // 2)
            before, crew.back_s = crew.fresh, time.monotonic()
            station.begin()
            until(lambda: crew.fresh > before + FPS)

        crew = run_beside(ShowOptions(source=station.address), station.start_s, work)
    check_pace(crew)
    check_sound(crew)
    sent, _, signer = crew.frames[-1][2]
    assert sent > 100 * (crew.back_s - station.start_s), "it shows what is sent now"
    assert kind is not Tcp or abs(sent - signer) < 40, "where nothing is held back on its way: both together"
    assert not any("programme:" in text for text in crew.statuses[-1].messages)


def test_an_address_that_gives_nothing_at_first_fits_into_what_leaves_already(monkeypatch):
    monkeypatch.setattr("avatar_stream.running.show.programme._FIRST_PICTURE_S", 0.1)
    sizes = set()

    def work(crew):
        until(lambda: any("signer stands alone" in text for text in crew.notices) and len(crew.frames) > 5)
        station.begin()
        until(lambda: crew.fresh > FPS)

    class Seeing(Crew):
        def look_at(self, image):
            sizes.add(image.shape[1::-1])
            return super().look_at(image)

    with Tcp() as station:
        station.end()
        run_beside(ShowOptions(source=station.address), station.start_s, work, Seeing)
    assert sizes == {(1280, 720)}


def test_a_show_that_waits_for_a_caller_ends_and_leaves_no_program_behind(monkeypatch):
    needs_srt()
    monkeypatch.setattr("avatar_stream.running.show.programme._FIRST_PICTURE_S", 0.1)
    me, address = psutil.Process(), f"srt://127.0.0.1:{free_port()}?mode=listener"
    programme = Programme(ShowOptions(source=address))

    def programs():
        return [child for child in me.children() if "ffmpeg" in child.name()]

    programme.open()
    until(programs)
    start_s = time.monotonic()
    programme.close()
    assert time.monotonic() - start_s < 4 and not programs()


def check_delay(crew):
    # A busy machine lets some leave late, but nothing leaves early. That it leaves in time: test_pacer.py.
    assert crew.delays_ms.min() > TARGET_MS - 1


def check_pace(crew):
    """Nothing leaves before the target, and the programme's pictures leave in their order and at their pace."""
    times_s = np.array([time_s for _, time_s, _ in crew.frames])
    assert np.diff(times_s).min() > 0 and np.diff(times_s).max() < 2, "something leaves all the time"
    check_delay(crew)
    shown = [(time_s, look[1]) for _, time_s, look in crew.frames if look[1] != -1]
    first = [each for each, (_, after) in zip(shown, shown[1:], strict=False) if after >= each[1]]
    offsets_s = np.array([time_s - place / FPS for time_s, place in first[FPS // 2 : 2 * FPS]])
    assert np.median(np.abs(offsets_s - np.median(offsets_s))) < 0.1


def check_sound(crew):
    """Beeps stand where the programme's own seconds begin, as its pictures say; between them nothing is torn."""
    sound = np.concatenate([samples for *_, samples in crew.sounds])
    heard_s = np.array(beginnings_s(sound)) + crew.sounds[0][1]
    assert len(heard_s) >= 2 and len({samples.shape for *_, samples in crew.sounds}) == 1
    assert np.diff([time_s for _, time_s, _ in crew.sounds]) == pytest.approx(0.02, abs=1e-6)
    shown = [(time_s, look[1]) for _, time_s, look in crew.frames if look[1] != -1]
    times_s, places = (np.array(each) for each in zip(*shown, strict=True))
    off_s = []
    for moment_s in heard_s:
        nearest = int(np.abs(times_s - moment_s).argmin())
        place = places[nearest] + FPS * (moment_s - times_s[nearest])
        off_s.append(((place + FPS / 2) % FPS - FPS / 2) / FPS)
    # A stream that begins in the midst of a beep gives a false beginning: the better half counts.
    assert np.percentile(np.abs(off_s), 50, method="lower") < 0.08, off_s


class CaptureCard(Camera):
    """Stands where OpenCV's capture of a driver stands, for test machines have no camera."""

    def __init__(self, start_s, pictures=10**9, opens=True):
        super().__init__(self._pictures(start_s, pictures), (*SIZE, FPS), opens)

    def _pictures(self, start_s, count):
        for _ in range(count):
            time.sleep(1 / FPS)
            image = np.full((SIZE[1], SIZE[0], 3), (60, 90, 40), np.uint8)
            draw_number(image, round(100 * (time.monotonic() - start_s)) % 4096, 16, 16)
            draw_number(image, 0, 16, 64)
            yield image


def test_a_capture_card_is_in_step_with_the_signer_and_may_be_unplugged(monkeypatch):
    start_s = time.monotonic()
    cards = [CaptureCard(start_s, 2 * FPS), *(CaptureCard(start_s, opens=False) for _ in range(2))]
    asked = []

    def open_capture(index):
        asked.append(index)
        return cards.pop(0) if cards else CaptureCard(start_s)

    monkeypatch.setattr("avatar_stream.sources.webcam._open_capture", open_capture)

    def work(crew):
        until(lambda: any("camera 3 is gone: plug it in again" in text for text in crew.notices))
        before = crew.fresh
        until(lambda: crew.fresh > before + FPS)

    crew = run_beside(ShowOptions(source=3), start_s, work)
    assert set(asked) == {3} and len(asked) == 4
    check_delay(crew)
    together = [look[0] - look[2] for *_, look in crew.frames[-FPS // 2 :]]
    assert -1 <= np.median(together) <= 8, "hundredths: the newest signer that is not later"
    assert not any("programme:" in text for text in crew.statuses[-1].messages)


def test_what_comes_in_pieces_is_played_steadily():
    clock, step_s = PlayingClock(0.5), 0.04
    # Pieces of a second; the fourth one comes 0.3 s late, which is in time, the seventh 2 s late, which is not.
    came_s = 100 + np.repeat(np.arange(10.0), 25) + np.repeat([0, 0, 0, 0.3, 0, 0, 2, 2, 2, 2], 25)
    played_s = [clock.capture_s(index * step_s, moment_s) for index, moment_s in enumerate(came_s)]
    steps_s = np.diff(played_s)
    assert steps_s[:149] == pytest.approx(np.full(149, step_s)) and played_s[0] == 100
    assert steps_s[149] == pytest.approx(step_s + 2) and steps_s[150:] == pytest.approx(np.full(99, step_s))
    assert clock.capture_s(3600.0, 120.0) == clock.capture_s(0.0, 120.0) == 120.0, "it has begun anew"
    film = PlayingClock(0.5, 100.0)
    assert film.capture_s(30.0, 100.1) == 130.0, "a film may show one picture for long"
