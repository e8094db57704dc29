"""A folder of PNG pictures, one a frame, with transparency."""

from __future__ import annotations

import contextlib
import os
import shutil

import numpy as np
from PIL import Image

from avatar_stream import provenance, stages
from avatar_stream.errors import SinkError
from avatar_stream.options import OutputPath
from avatar_stream.types import Frame


class PictureFolderSink(stages.Sink):
    """Writes `frame_000000.png`, ... beside the final folder, which takes its name when it is complete."""

    class Options(stages.SinkOptions):
        """Where to."""

        path: OutputPath
        """The folder to make; it must not exist, or be empty."""
        transparent: bool = False
        """Keep `Frame.alpha`."""

    options: Options

    def __init__(self, options: Options, context: stages.Context | None = None):
        """Store the options; `open()` makes the folder."""
        super().__init__(options, context)
        self._composite = self.context.composite or options.side_by_side
        self._part = options.path.parent / f".{options.path.name}.{os.getpid()}.part"
        self._count: int | None = None

    def open(self) -> None:
        """Make the folder; SinkError where that fails or the final one holds files already."""
        path = self.options.path
        if not path.name or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise SinkError(
                f"cannot write {path}: it exists already; give a new folder, or a name ending with .mp4"
            )
        try:
            self._part.mkdir()
        except OSError as error:
            raise SinkError(f"cannot make the folder {path}: {error.strerror or error}") from error
        self._count = 0

    def write(self, frame: Frame) -> None:
        """Add one picture: (H, W, 3) uint8 RGB, with `alpha` (H, W) uint8 where it is kept."""
        if self._count is None:
            raise SinkError(f"{self.options.path} is not open")
        image = frame.image
        if self.options.transparent and frame.alpha is not None:
            image = np.dstack([image, frame.alpha])
        path = self._part / f"frame_{self._count:06d}.png"
        try:
            text = provenance.png_text(self._composite)
            Image.fromarray(image).save(path, compress_level=3, pnginfo=text)
        except OSError as error:
            reason, count = error.strerror or str(error), self._count
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)  # half a picture
            self.close()
            raise SinkError(
                f"cannot write into {self.options.path} ({reason}): the {count} pictures before it are kept; "
                "make room, or check that the folder is still there"
            ) from error
        self._count += 1

    def close(self) -> None:
        """Give the folder its name; without any frame nothing is left. May be called twice.

        Raises:
            SinkError: it cannot have that name; the message says where the pictures are.
        """
        count, self._count = self._count, None
        if not count:
            self.discard()
            return
        try:
            if self.options.path.is_dir():
                self.options.path.rmdir()  # empty, as `open` found it: Windows renames onto nothing that is there
            self._part.replace(self.options.path)
        except OSError as error:
            place = (
                f"the {count} pictures are in {self._part}" if self._part.is_dir() else "its place is gone"
            )
            raise SinkError(
                f"cannot make the folder {self.options.path} ({error.strerror or error}): {place}"
            ) from error

    def discard(self) -> None:
        """Leave nothing: what a caller does after a failure. May be called twice."""
        self._count = None
        shutil.rmtree(self._part, ignore_errors=True)


STAGE = PictureFolderSink
