"""The signer's way in, read as the runner does."""

import contextlib
import threading

from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.errors import EndOfStream
from avatar_stream.sources.whip import WhipSource
from avatar_stream.stages import Context

TOKEN = "a-token-for-tests"


class Reader(threading.Thread):
    """Reads a source as the runner does, on one thread from open to close; keeps the newest frame."""

    def __init__(self, source, on_frame=lambda frame: None):
        super().__init__(name="reader")
        self.source, self.on_frame, self.frames, self.error = source, on_frame, [], None
        self.opened, self.changed = threading.Event(), threading.Condition()

    def run(self):
        try:
            self.source.open()
            self.opened.set()
            while True:
                frame = self.source.read()
                self.on_frame(frame)
                with self.changed:
                    self.frames.append(frame)
                    self.changed.notify_all()
        except EndOfStream:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.source.close()
            self.source.close()
            self.opened.set()

    def __enter__(self):
        self.start()
        assert self.opened.wait(20)
        assert self.error is None, self.error
        return self

    def __exit__(self, *_):
        self.source.stop()
        self.join(20)
        assert not self.is_alive() and self.error is None, self.error

    def wait_for(self, accept, timeout_s=40, after=0):
        """The first frame from number `after` on that is accepted."""
        with self.changed:
            seen = lambda: next((frame for frame in self.frames[after:] if accept(frame)), None)  # noqa: E731
            assert self.changed.wait_for(lambda: seen() is not None, timeout_s), self.source.notice
            return seen()


@contextlib.contextmanager
def receiving(controls=None, server=None, on_frame=lambda frame: None, **options):
    """A source, with a server of its own where none is given, read on a thread."""
    server = server or Server(ServerOptions(port=0, **options))
    source = WhipSource(context=Context(server=server))
    if controls is not None:
        server.attach(controls)
    with Reader(source, on_frame) as reader:
        yield server, reader
