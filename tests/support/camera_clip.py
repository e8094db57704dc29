from fractions import Fraction

import av

from avatar_stream.places import bundled

CORNER_PX = 96


def write_camera(path, frames=50):
    """The bundled clip as Motion-JPEG, with a green block in the picture's left upper corner."""
    clip = bundled("assets") / "clips" / "signer.mp4"
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for index, frame in zip(range(frames), source.decode(video=0), strict=False):
            image = frame.to_ndarray(format="rgb24", width=640, height=480)
            image[:CORNER_PX, :CORNER_PX] = (0, 200, 0)
            picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuvj420p")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
