"""Pipelines of a source, and an output that ends the run when something was told."""

from avatar_stream.controls import Wish
from avatar_stream.images.compose import Composer
from avatar_stream.running.pipeline import Cast, Output, Pipeline
from avatar_stream.sources.synthetic import SyntheticSource
from support.stages import Asking, Slow, Still


class Until(Asking):
    """Ends the run some frames after something was told."""

    def __init__(self, words, frames=5):
        super().__init__({})
        self.words, self.left = words, frames

    def write(self, frame):
        super().write(frame)
        self.left -= any(self.words in message for message in self.told[-1].messages)
        if self.left == 0:
            self.controls.ask(Wish.QUIT)


def make_pipeline(source, *sinks, tracker=None, guard=None):
    outputs = [Output(sink, f"o{k}") for k, sink in enumerate(sinks)]
    return Pipeline(source, tracker, Cast("one", Still(), Slow()), Composer(), outputs, guard=guard)


def synthetic(**options):
    return SyntheticSource(SyntheticSource.Options(**{"width": 64, "height": 48, **options}))
