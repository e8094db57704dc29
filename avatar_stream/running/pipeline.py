"""One frame's way: source, tracker, retargeter, synthesizer, composition, outputs. Threads are running/'s."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatar_stream import stages
from avatar_stream.errors import ConfigError
from avatar_stream.images.compose import LABEL, TRANSPARENT, Composer, draw_pose, side_by_side
from avatar_stream.options import Options
from avatar_stream.retarget import Retargeter
from avatar_stream.retarget.framing import FramingGuard
from avatar_stream.running.avatars import list_portraits, load_avatar
from avatar_stream.running.config import PipelineConfig, StageConfig, choose, find_stage, make_config
from avatar_stream.running.show.options import USUAL_SIZE, ShowOptions, signer_side_px
from avatar_stream.stages import Context
from avatar_stream.types import PICTURE_SIDES_PX, Frame, PictureSide, Pose

if TYPE_CHECKING:
    from avatar_stream.broadcast.server import Server

# Called with a stage's name, it gives what surrounds that stage's work: the runner measures and watches.
During = Callable[[str], AbstractContextManager]


@dataclasses.dataclass(frozen=True)
class Cast:
    """Who signs: an avatar with the two stages that are made for it."""

    name: str
    retargeter: Retargeter
    synthesizer: stages.Synthesizer


@dataclasses.dataclass(frozen=True)
class AnalyzedFrame:
    """A frame with the signer's pose in it, and the pose that `cast` takes."""

    frame: Frame
    pose: Pose
    cast: Cast


@dataclasses.dataclass(frozen=True)
class RenderedFrame:
    """A finished frame, with what it was made from."""

    frame: Frame
    pose: Pose
    shown: Frame


@dataclasses.dataclass(frozen=True)
class Output:
    """A sink and what it is given.

    Attributes:
        sink: the stage.
        name: for reports and messages.
        beside: it gets driver, pose and avatar beside each other.
        optional: where it cannot be opened the run goes on without it.
    """

    sink: stages.Sink
    name: str
    beside: bool = False
    optional: bool = False


@dataclasses.dataclass
class Pipeline:
    """Stages in the order a frame meets them.

    Attributes:
        source: where frames come from.
        tracker: None where the source brings poses.
        cast: who signs; another one may take its place while it runs.
        composer: what is behind the person.
        outputs: any number.
        guard: tells when the camera sees the signer badly; None: nobody asks.
        recast: makes the cast of another avatar, of its name and who signs now; None: only this one.
        avatars: names for `recast`, in the order of the keys next and previous.
        new_recording: makes the output of a recording that is started while it runs; None: not offered.
        skeleton: draw the pose over the person.
        server: the web server that its stages share; None: none of them needs one.
        show: the programme beside which the signer stands; None: the signer alone.
        target_delay_ms: live, everything leaves so long after its capture; None: as soon as it is finished.
    """

    source: stages.Source
    tracker: stages.Tracker | None
    cast: Cast
    composer: Composer
    outputs: Sequence[Output]
    guard: FramingGuard | None = None
    recast: Callable[[str, Cast], Cast] | None = None
    avatars: Sequence[str] = ()
    new_recording: Callable[[], Output] | None = None
    skeleton: bool = False
    server: Server | None = None
    show: ShowOptions | None = None
    target_delay_ms: int | None = None

    def analyze(
        self, frame: Frame, during: During = contextlib.nullcontext, looked: bool = True
    ) -> AnalyzedFrame:
        """Find the signer and carry the pose over to the avatar.

        Args:
            frame: from the source.
            during: surrounds each stage's work.
            looked: False: the picture is an old one, nobody is there.
        """
        if self.tracker is not None and looked:
            with during("tracker"):
                frame = dataclasses.replace(frame, pose=self.tracker.track(frame))
        if self.guard is not None and looked:
            self.guard.look(frame)
        cast = self.cast
        with during("retargeter"):
            return AnalyzedFrame(frame, cast.retargeter.retarget(frame.pose, frame.time_s), cast)

    def render(self, analyzed: AnalyzedFrame, during: During = contextlib.nullcontext) -> RenderedFrame:
        """Make the avatar's picture and put it over the background."""
        with during("synthesizer"):
            person = analyzed.cast.synthesizer.synthesize(analyzed.pose)
        with during("composer"):
            if self.skeleton:
                person = _draw_over(person, analyzed.pose)
            shown = self.composer.compose(analyzed.frame, person)
            shown = dataclasses.replace(shown, driver=analyzed.frame.image, person=person)
        return RenderedFrame(analyzed.frame, analyzed.pose, shown)

    def picture(self, rendered: RenderedFrame, output: Output) -> Frame:
        """Return what an output is given."""
        if not output.beside:
            return rendered.shown
        return side_by_side(rendered.frame, rendered.pose, rendered.shown, draw_driver=self.tracker is None)


def _draw_over(person: np.ndarray, pose: Pose) -> np.ndarray:
    # (S, S, 4) uint8 RGBA with the pose drawn on it, its lines opaque
    with_lines = draw_pose(person[..., :3], pose)
    changed = (with_lines != person[..., :3]).any(axis=2)
    return np.dstack([with_lines, np.where(changed, 255, person[..., 3]).astype(np.uint8)])


def build_pipeline(config: PipelineConfig) -> Pipeline:
    """Make the pipeline that a checked config describes; nothing is open yet.

    Raises:
        ConfigError: the background cannot be read.
        AvatarError: the avatar is unknown or incomplete.
    """
    portraits = list_portraits(config.avatar)
    server = _make_server(config)
    if server is not None:
        server.api.portraits = portraits
    source = config.source.make(Context(server=server))
    compose = config.compose
    if source.live and "label" not in compose.model_fields_set:
        # Whoever sees a living avatar is told what it is, unless the file words it otherwise or says `label: null`.
        compose = compose.model_copy(update={"label": LABEL})
    composer = Composer(compose)
    context = Context(
        server=server,
        live=source.live,
        label=composer.options.label,
        sound=config.show is not None and config.show.sound,
        composite=config.show is not None or config.compose.is_picture,
        signing=config.c2pa,
    )
    return Pipeline(
        source=source,
        tracker=config.tracker.make() if config.tracker is not None else None,
        cast=_make_cast(config, config.avatar),
        composer=composer,
        outputs=[
            Output(output.make(context), name, output.options.side_by_side, output.options.optional)
            for output, name in zip(config.outputs, _output_names(config.outputs), strict=True)
        ],
        guard=FramingGuard() if config.framing and source.live else None,
        recast=lambda name, current: _make_cast(
            config, str(portraits[name].parent) if name in portraits else name, current
        ),
        avatars=list(portraits),
        new_recording=lambda: _make_recording(config, composer.transparent and not config.show, context),
        server=server,
        show=config.show,
        target_delay_ms=config.target_delay_ms,
    )


def _make_cast(config: PipelineConfig, name: str, current: Cast | None = None) -> Cast:
    avatar = load_avatar(name)
    retargeter = Retargeter(avatar.pose, config.retarget)
    if current is not None and current.synthesizer.set_avatar(avatar):
        return Cast(avatar.name, retargeter, current.synthesizer)
    context = Context(avatar=avatar, size_px=needed_side_px(config.compose, config.show))
    return Cast(avatar.name, retargeter, config.synthesizer.make(context))


def needed_side_px(compose: Composer.Options, show: ShowOptions | None = None) -> PictureSide:
    """Return the smallest side of an avatar's picture that need not be enlarged, or the largest there is.

    Args:
        compose: how large the person stands in the picture.
        show: how large beside a programme. One that does not say its size is taken for 1280x720: it may come later.
    """
    shown_px = compose.person_px
    if show is not None:
        shown_px = max(shown_px, signer_side_px(show, *(show.picture_size or USUAL_SIZE)))
    return next((side_px for side_px in PICTURE_SIDES_PX if side_px >= shown_px), PICTURE_SIDES_PX[-1])


def _output_names(outputs: Sequence[StageConfig[stages.Sink]]) -> list[str]:
    # Each its own: threads and hand-overs are known by them, and two pages are both of type "web".
    names = [str(output.options.file or output.type_name) for output in outputs]
    earlier = [names[:index].count(name) for index, name in enumerate(names)]
    return [f"{name} {count + 1}" if count else name for name, count in zip(names, earlier, strict=True)]


def _make_server(config: PipelineConfig) -> Server | None:
    # One for all stages that ask for one; a pipeline without them loads nothing of the web.
    if not (config.source.stage.needs_server or any(output.stage.needs_server for output in config.outputs)):
        return None
    from avatar_stream.broadcast.server import Server

    return Server(config.server)


def _make_recording(config: PipelineConfig, transparent: bool, context: Context) -> Output:
    folder = config.recordings
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder} for recordings: {error.strerror}") from error
    # Microseconds, for a second recording may begin while the first of the same second is being finished.
    stem = f"avatar-{datetime.now():%Y%m%d-%H%M%S-%f}"
    path = folder / f"{stem}{'.webm' if transparent else '.mp4'}"
    sink = choose("sinks", "video_file", path=path, transparent=transparent)
    return Output(sink.make(context), str(path))


class RecordOptions(Options):
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
    size: PictureSide | None = None


def build_record(options: RecordOptions) -> Pipeline:
    """Make the pipeline from a file to a file; nothing is open yet.

    Raises:
        ConfigError: input and outputs are the same, the synthesizer is unknown, or the background is wrong.
        AvatarError: the avatar is unknown or incomplete.
    """
    transparent = options.background == TRANSPARENT
    if transparent and options.output.suffix.lower() == ".mp4":
        raise ConfigError(
            f"{options.output}: .mp4 has no transparency; name it .webm, or a folder for pictures"
        )
    if transparent and options.side_by_side:
        raise ConfigError(
            f"--side-by-side cannot be had with --background {TRANSPARENT}: leave one of them out"
        )
    sink = "video_file" if options.output.suffix else "picture_folder"
    outputs = [choose("sinks", sink, path=options.output, transparent=transparent)]
    if options.side_by_side:
        outputs.append(choose("sinks", "video_file", path=options.side_by_side, side_by_side=True))
    source = "pose_file" if options.input.suffix.lower() == ".pose" else "video_file"
    config = make_config(
        "record",
        avatar=options.avatar,
        source=choose("sources", source, path=options.input),
        synthesizer=_chosen_synthesizer(options),
        compose=_named(options, "background", "size"),
        outputs=outputs,
    )
    return build_pipeline(config)


def _chosen_synthesizer(options: RecordOptions) -> StageConfig[stages.Synthesizer]:
    chosen = _named(options, "model", "steps", "seed", "device")
    known = find_stage("synthesizers", options.synthesizer).Options.model_fields
    for key in chosen:
        if key not in known:
            raise ConfigError(f"--synthesizer {options.synthesizer} has no --{key}: leave it out")
    return choose("synthesizers", options.synthesizer, **chosen)


def _named(options: RecordOptions, *keys: str) -> dict[str, object]:
    # Those that were asked for.
    return {key: value for key in keys if (value := getattr(options, key)) is not None}
