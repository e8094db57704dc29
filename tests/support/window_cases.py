"""The preview window under Xvfb, driven by real keys, its pixels read from the screen.

A program: it runs each case in a child of its own and prints as JSON what went wrong in which, "" for nothing.
"""

import contextlib
import json
import os
import subprocess
import threading
import time
import traceback

import cv2
import numpy as np

from avatar_stream.controls import Controls, Status, Wish
from avatar_stream.errors import OutputClosed
from avatar_stream.sinks.window import WindowSink
from avatar_stream.types import Frame
from support import stages
from support.x11 import press_cross


@contextlib.contextmanager
def screen():
    """A virtual screen of 900 x 800 px; OpenCV's window system meets only this one."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "900x800x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as told:
        number = told.readline().strip()
    os.environ.pop("WAYLAND_DISPLAY", None)
    os.environ["DISPLAY"] = f":{number}"
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)


def picture(colour=(40, 120, 200)):
    image = np.full((360, 360, 3), colour, np.uint8)
    image[:, :60] = (250, 250, 20)  # a yellow edge on the left tells mirrored from not
    return image


def frame(**parts):
    return Frame(**{"image": picture(), "time_s": time.monotonic(), "index": 0} | parts)


def photograph():
    """(800, 900, 3) uint8 RGB: what stands on the screen."""
    done = subprocess.run(["import", "-window", "root", "png:-"], capture_output=True, check=True, timeout=90)
    return cv2.imdecode(np.frombuffer(done.stdout, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def opened(controls=None, **options):
    return stages.opened(WindowSink(WindowSink.Options(height_px=360, **options)), controls)


def press(*keys):
    command = ["xdotool", "mousemove", "150", "200", "key", "--delay", "300", *keys]
    subprocess.run(command, check=True, timeout=90)


def show_until(sink, condition, timeout_s=90.0, **parts):
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        sink.write(frame(**parts))
        if condition():
            return True
        time.sleep(0.02)
    return False


def assert_ends(work, timeout_s=90.0):
    """The window's work ends the run before long."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        try:
            work()
        except OutputClosed:
            return
        time.sleep(0.02)
    raise AssertionError("it did not end")


def on_screen(test, sink, **parts):
    return show_until(sink, lambda: test(photograph()), **parts)


def test_keys_become_wishes():
    controls, asked = Controls(), []

    def all_asked():
        asked.extend(controls.take())
        return len(asked) >= 7

    with opened(controls) as sink:
        assert on_screen(lambda shot: abs(shot[180, 300] - (40, 120, 200)).max() < 12, sink)
        pressing = threading.Thread(target=press, args=("n", "p", "b", "s", "r", "f", "c"))
        pressing.start()
        show_until(sink, all_asked)
        pressing.join()
    named = "NEXT_AVATAR PREVIOUS_AVATAR NEXT_BACKGROUND SKELETON RECORD FREEZE CALIBRATE"
    assert asked == [Wish[name] for name in named.split()]


def test_mirror_and_help_are_seen():
    def yellow(side):
        columns = slice(10, 50) if side == "left" else slice(310, 350)
        return lambda shot: (abs(shot[250:330, columns] - (250, 250, 20)).max(axis=(0, 1)) < 12).all()

    def has_list(shot):
        return shot[40:160, 70:140].std(axis=(0, 1)).max() > 12

    with opened() as sink:
        assert on_screen(lambda shot: yellow("left")(shot) and has_list(shot), sink)
        press("h")
        assert on_screen(lambda shot: not has_list(shot), sink)
        press("m")
        assert on_screen(yellow("right"), sink)
        press("m")
        assert on_screen(yellow("left"), sink)


def test_driver_status_and_messages_are_seen():
    controls = Controls()
    driver = np.full((240, 320, 3), (200, 30, 30), np.uint8)
    with opened(controls, help=False) as sink:
        assert on_screen(lambda shot: abs(shot[50, 300] - (200, 30, 30)).max() < 12, sink, driver=driver)
        quiet = photograph()
        controls.tell(Status(fps=25, delay_ms=120, recording=True, messages=("step back a little",)))
        is_red = lambda shot: (abs(shot[362:400, 180:360] - (255, 92, 92)).max(axis=2) < 12).sum() > 40  # noqa: E731
        assert on_screen(is_red, sink, driver=driver)
        told = photograph()
    assert abs(told[362:390, 8:120] - quiet[362:390, 8:120]).max() > 60, "figures in the bar"
    amber = abs(told[300:355, 14:200] - (255, 205, 110)).max(axis=2) < 40
    assert amber.sum() > 40, "the message, on the picture's lower edge"


def test_arrows_and_the_like_are_no_letters():
    controls, asked = Controls(), []

    def skeleton_asked():
        asked.extend(controls.take())
        return Wish.SKELETON in asked

    with opened(controls) as sink:
        on_screen(lambda shot: shot[180, 300, 2] > 150, sink)
        pressing = threading.Thread(target=press, args=("Left", "Up", "Right", "Home", "F1", "s"))
        pressing.start()
        assert show_until(sink, skeleton_asked)
        pressing.join()
    assert asked == [Wish.SKELETON], "Left would quit, Up record"


def ends_by(key):
    controls = Controls()
    with opened(controls) as sink:
        on_screen(lambda shot: shot[180, 300, 2] > 150, sink)
        pressing = threading.Thread(target=press, args=(key,))
        pressing.start()
        assert_ends(lambda: sink.write(frame()))
        pressing.join()
    assert controls.take() == [Wish.QUIT]


def test_q_ends_the_run():
    ends_by("q")


def test_escape_ends_the_run():
    ends_by("Escape")


def test_the_cross_ends_the_run_also_while_no_frame_comes():
    with opened() as sink:
        on_screen(lambda shot: shot[180, 300, 2] > 150, sink)
        search = ["xdotool", "search", "--name", "avatar_stream"]
        found = subprocess.run(search, capture_output=True, text=True, check=True, timeout=90).stdout.split()
        press_cross(int(found[-1]))
        assert_ends(sink.idle)


def test_any_size_can_be_shown():
    with opened() as sink:
        for shape in ((64, 64, 3), (1080, 1920, 3), (512, 512, 3), (1, 1, 3)):
            sink.write(frame(image=np.zeros(shape, np.uint8), driver=np.zeros((2000, 30, 3), np.uint8)))


def outcome_of(case):
    """What went wrong in a case, run in a child; OpenCV does not always show a second window of one process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            case()
        except BaseException:
            os.write(writing, traceback.format_exc()[-4000:].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = told.read()
    _, status = os.waitpid(child, 0)
    return said or (f"ended with {status}" if status else "")


def main():
    cases = {name: case for name, case in globals().items() if name.startswith("test_")}
    with screen():
        print(json.dumps({name: outcome_of(case) for name, case in cases.items()}))


if __name__ == "__main__":
    main()
