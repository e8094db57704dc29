"""One frame's way: source, tracker, retargeter, synthesizer, composition, outputs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from avatar_stream import stages
from avatar_stream.compose import TRANSPARENT, Composer, side_by_side
from avatar_stream.errors import ConfigError, EndOfStream
from avatar_stream.types import Frame, Pose

SYNTHESIZERS = ("flow", "rig")


class Retargets(Protocol):
    """What the pipeline needs of `retarget.Retargeter`."""

    def retarget(self, pose: Pose | None, time_s: float) -> Pose:
        """Return the avatar's pose for the signer's, also where nobody is seen."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        frames: written to every output.
        with_signer: of these, frames in which somebody was found.
        interrupted: the user stopped it before the source's end.
    """

    frames: int
    with_signer: int
    interrupted: bool


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Stages in the order a frame meets them. `tracker` is None where the source brings poses."""

    source: stages.Source
    tracker: stages.Tracker | None
    retargeter: Retargets
    synthesizer: stages.Synthesizer
    composer: Composer
    sinks: Sequence[stages.Sink]
    side_by_side_sinks: Sequence[stages.Sink] = ()

    def run(self, on_frame: Callable[[Frame], None] | None = None) -> Report:
        """Open the stages, bring every frame through, close them.

        Outputs are finished at the end of the source and when the user interrupts (Ctrl-C); after any
        error they are discarded, so that no half file has the final name.

        Args:
            on_frame: called after each frame, for a progress bar.

        Returns:
            The Report.

        Raises:
            AvatarStreamError: what the stages raise.
        """
        frames = with_signer = 0
        with contextlib.ExitStack() as stack:
            self._open(stack)
            interrupt = stack.enter_context(_Interrupt())
            with contextlib.suppress(EndOfStream):
                while not interrupt.asked:
                    shown = self._next_frame()
                    frames += 1
                    with_signer += shown.pose is not None
                    if on_frame is not None:
                        on_frame(shown)
            for sink in (*self.sinks, *self.side_by_side_sinks):
                sink.close()
        return Report(frames, with_signer, interrupt.asked)

    def _next_frame(self) -> Frame:
        frame = self.source.read()
        if self.tracker is not None:
            frame = dataclasses.replace(frame, pose=self.tracker.track(frame))
        pose = self.retargeter.retarget(frame.pose, frame.time_s)
        person = self.synthesizer.synthesize(pose)
        shown = self.composer.compose(frame, person)
        for sink in self.sinks:
            sink.write(shown)
        for sink in self.side_by_side_sinks:
            sink.write(side_by_side(frame, pose, shown, draw_driver=self.tracker is None))
        return shown

    def _open(self, stack: contextlib.ExitStack) -> None:
        # Cheap things first, so that a wrong name is told before networks are loaded. What the stack calls
        # after an error leaves nothing under a final name; after a clean end it finds nothing left to do.
        for sink in (*self.sinks, *self.side_by_side_sinks):
            stack.callback(getattr(sink, "discard", sink.close))
        for stage in (self.source, self.tracker, self.synthesizer):
            if stage is not None:
                stack.callback(stage.close)
        for stage in (self.source, *self.sinks, *self.side_by_side_sinks, self.synthesizer, self.tracker):
            if stage is not None:
                stage.open()


class _Interrupt:
    """Inside it the first Ctrl-C only asks: the frame at work is finished, and the outputs with it."""

    def __init__(self):
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> _Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class RecordOptions(stages.Options):
    """What `avatar-stream record` is asked for; see its help."""

    input: Path
    avatar: str
    output: Path
    side_by_side: Path | None = None
    synthesizer: str = "flow"
    model: str | None = None
    steps: int | None = None
    seed: int | None = None
    device: str | None = None
    background: str | None = None


def build_record(options: RecordOptions) -> Pipeline:
    """Make the pipeline from a file to a file; nothing is open yet.

    Raises:
        ConfigError: input and outputs are the same, the synthesizer is unknown, or the background is wrong.
        AvatarError: the avatar is unknown or incomplete.
    """
    from avatar_stream.avatars import load_avatar
    from avatar_stream.retarget import Retargeter

    _check_places(options)
    composer = Composer(Composer.Options(background=options.background) if options.background else None)
    output = _make_sink(options.output, composer.transparent)
    extra = [_make_sink(options.side_by_side, False)] if options.side_by_side else []
    if composer.transparent and options.output.suffix.lower() == ".mp4":
        raise ConfigError(
            f"{options.output}: .mp4 has no transparency; name it .webm, or a folder for pictures"
        )
    if composer.transparent and extra:
        raise ConfigError(
            f"--side-by-side cannot be had with --background {TRANSPARENT}: leave one of them out"
        )
    avatar = load_avatar(options.avatar)
    source, tracker = _make_source(options.input)
    synthesizer = _make_synthesizer(options, avatar)
    return Pipeline(source, tracker, Retargeter(avatar.pose), synthesizer, composer, [output], extra)


def _check_places(options: RecordOptions) -> None:
    outputs = [path for path in (options.output, options.side_by_side) if path is not None]
    places = [os.path.realpath(path) for path in (options.input, *outputs)]
    if len(set(places)) != len(places):
        raise ConfigError(f"{outputs[-1]} is named twice: input and outputs must be different files")
    for path in outputs:
        if not path.parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent} for {path.name}: make it, or name another")


def _make_sink(path: Path, transparent: bool) -> stages.Sink:
    if path.suffix:
        from avatar_stream.sinks.video_file import VideoFileSink

        return VideoFileSink(VideoFileSink.Options(path=path, transparent=transparent))
    from avatar_stream.sinks.picture_folder import PictureFolderSink

    return PictureFolderSink(PictureFolderSink.Options(path=path, transparent=transparent))


def _make_source(path: Path) -> tuple[stages.Source, stages.Tracker | None]:
    if path.suffix.lower() == ".pose":
        from avatar_stream.sources.pose_file import PoseFileSource

        return PoseFileSource(PoseFileSource.Options(path=path)), None
    from avatar_stream.sources.video_file import VideoFileSource
    from avatar_stream.trackers.holistic import HolisticTracker

    return VideoFileSource(VideoFileSource.Options(path=path)), HolisticTracker()


def _make_synthesizer(options: RecordOptions, avatar) -> stages.Synthesizer:
    given = {key: getattr(options, key) for key in ("model", "steps", "seed", "device")}
    given = {key: value for key, value in given.items() if value is not None}
    if options.synthesizer == "flow":
        from avatar_stream.synthesizers.flow import FlowSynthesizer

        return FlowSynthesizer(FlowSynthesizer.Options(avatar=avatar, **given))
    if options.synthesizer == "rig":
        if given:
            raise ConfigError(f"--synthesizer rig has no --{sorted(given)[0]}: leave it out")
        from avatar_stream.synthesizers.rig import RigSynthesizer

        return RigSynthesizer(RigSynthesizer.Options(avatar=avatar))
    raise ConfigError(f"unknown synthesizer '{options.synthesizer}': {' or '.join(SYNTHESIZERS)}")
