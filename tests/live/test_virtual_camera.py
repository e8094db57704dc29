"""The virtual camera: pictures arrive whole and in the right colours; what is missing is named."""

import sys

import numpy as np
import pytest

from avatar_stream.errors import SinkError
from avatar_stream.images.fitting import fit
from avatar_stream.sinks.virtual_camera import VirtualCameraSink
from avatar_stream.types import Frame

RED, MARGIN = (230, 40, 20), (10, 20, 30)


def red_square(side_px=64) -> Frame:
    image = np.full((side_px, side_px, 3), RED, np.uint8)
    image[:, : side_px // 4] = (0, 0, 255)  # the left quarter is blue
    return Frame(image=image, time_s=0.0, index=0)


class Recorder:
    """A camera of ours behind pyvirtualcam's own front: keeps what a meeting program would see."""

    sent: list[np.ndarray] = []

    def __init__(self, *, width, height, fps, fourcc, device):
        self._size = (height, width)

    def send(self, frame):
        Recorder.sent.append(frame.reshape(*self._size, 3).copy())

    def device(self):
        return "recorder"

    def native_fourcc(self):
        return None

    def close(self):
        pass


@pytest.fixture
def recorder(monkeypatch):
    library = pytest.importorskip("pyvirtualcam", reason="pyvirtualcam is missing: the extra 'camera'")
    monkeypatch.setattr(library.camera, "BACKENDS", {"recorder": Recorder})
    Recorder.sent = []
    return Recorder


def test_a_square_picture_stands_whole_in_the_middle_of_a_wide_one():
    picture = fit(red_square().image, (320, 180), MARGIN)
    assert picture.shape == (180, 320, 3) and picture.flags.c_contiguous
    assert tuple(picture[90, 160]) == RED and tuple(picture[90, 75]) == (0, 0, 255)
    assert tuple(picture[90, 69]) == MARGIN and tuple(picture[90, 250]) == MARGIN
    assert tuple(picture[0, 160]) == RED, "it reaches from top to bottom"


def test_a_larger_picture_is_made_smaller_not_cut():
    picture = fit(red_square(512).image, (64, 128), MARGIN)
    assert tuple(picture[64, 1]) == (0, 0, 255) and tuple(picture[64, 62]) == RED
    assert tuple(picture[10, 32]) == MARGIN


@pytest.mark.parametrize("mirror, blue_column", [(False, 75), (True, 244)])
def test_pictures_reach_the_camera(recorder, mirror, blue_column):
    size = {"width_px": 320, "height_px": 180}
    sink = VirtualCameraSink(VirtualCameraSink.Options(mirror=mirror, margin="#0a141e", **size))
    sink.open()
    assert sink.device == "recorder"
    sink.write(red_square())
    sink.close()
    sink.close()
    assert len(recorder.sent) == 1
    row = recorder.sent[0][90]
    assert tuple(row[blue_column]) == (0, 0, 255) and tuple(row[5]) == MARGIN
    with pytest.raises(SinkError, match="not open"):
        sink.write(red_square())


def test_a_camera_that_is_not_there_is_named_with_what_to_do():
    pytest.importorskip("pyvirtualcam", reason="pyvirtualcam is missing: the extra 'camera'")
    sink = VirtualCameraSink(VirtualCameraSink.Options(device="/dev/video99"))
    with pytest.raises(SinkError, match=r"virtual camera /dev/video99 .* To get one: "):
        sink.open()
    sink.close()


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(SinkError, match=r"pip install pyvirtualcam"):
        VirtualCameraSink().open()


def test_a_margin_that_is_no_colour_is_told(recorder):
    with pytest.raises(SinkError, match="'mauvish' is no colour"):
        VirtualCameraSink(VirtualCameraSink.Options(margin="mauvish")).open()
