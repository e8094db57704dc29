import cv2
import numpy as np


class Camera:
    """Stands at the hardware's edge, where a real one cannot be in a test: behaves as `cv2.VideoCapture`."""

    def __init__(self, pictures, mode=(64, 48, 30.0), opens=True):
        self.pictures, self.mode, self.opens = iter(pictures), mode, opens
        self.asked, self.released = {}, False

    def isOpened(self):  # noqa: N802
        return self.opens

    def set(self, what, value):
        self.asked[what] = value

    def get(self, what):
        names = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)
        return self.mode[names.index(what)]

    def read(self):
        picture = next(self.pictures, None)
        if isinstance(picture, cv2.error):
            raise picture
        return picture is not None, picture

    def release(self):
        self.released = True


def picture(blue=200, size=(64, 48)):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[:, : size[0] // 2, 0] = blue
    return image
