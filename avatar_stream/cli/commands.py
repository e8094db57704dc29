"""The commands that run pipelines: record, demo, preview, broadcast, run, check. Each is a thin way to one run."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avatar_stream.errors import ConfigError

if TYPE_CHECKING:
    from avatar_stream.running.pipeline import Pipeline

_MODEL_KEYS = ("model", "steps", "seed", "device")
_SCHEMA = "pipeline.schema.json"
_SIDES_PX = (512, 768, 1024)  # as types.PICTURE_SIDES_PX, without loading numpy for a help text


def add_record(parser: argparse.ArgumentParser) -> None:
    """Record a clip of a signer as a video of an avatar that signs the same.

    The output has the frames and times of the input. Where nobody is in view the avatar holds its pose,
    then rests.
    """
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="CLIP",
        help="a clip (mp4, webm, mkv, mov, gif, ...) or a .pose file",
    )
    parser.add_argument(
        "--avatar",
        required=True,
        metavar="NAME",
        help='a name that "avatar-stream avatars" shows, or a folder',
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="OUT.mp4; OUT.webm; or a name without an ending: a folder of PNG",
    )
    parser.add_argument(
        "--side-by-side",
        nargs="?",
        const="",
        metavar="PATH",
        help="also write driver | pose | avatar beside each other; without PATH: OUT-side-by-side.mp4",
    )
    add_model_options(parser)
    parser.add_argument(
        "--background", help="a colour (white, '#dde4ec'), a picture file, or transparent (webm, PNG)"
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what chooses and tunes the synthesizer, and how large its picture is."""
    parser.add_argument(
        "--synthesizer",
        choices=("flow", "rig"),
        default="flow",
        help="the learned model, or the rigged person rendered (default: flow)",
    )
    parser.add_argument(
        "--model",
        help="weights: a folder's name under models/, a path, or a hub id (default: the bundled ones)",
    )
    parser.add_argument(
        "--steps", type=positive, metavar="N", help="steps of the flow a frame, 1 to 50 (default: 1)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        help="of the flow's noise; one seed, one machine: the same bits (default: the model's)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one, else cpu)")
    parser.add_argument(
        "--size",
        type=int,
        choices=_SIDES_PX,
        help="side of the picture, px (default: 512); only the look grows with it, not the network",
    )


def record(arguments: argparse.Namespace) -> int:
    """Do what `add_record` describes."""
    from avatar_stream.running.pipeline import RecordOptions, build_record

    side_by_side = arguments.side_by_side
    if side_by_side is not None:
        named = f"{arguments.output.stem}-side-by-side.mp4"
        side_by_side = Path(side_by_side) if side_by_side else arguments.output.parent / named
    options = RecordOptions(
        input=arguments.input,
        avatar=arguments.avatar,
        output=arguments.output,
        side_by_side=side_by_side,
        synthesizer=arguments.synthesizer,
        background=arguments.background,
        size=arguments.size,
        **{key: getattr(arguments, key) for key in _MODEL_KEYS},
    )
    outputs = [options.output, *([side_by_side] if side_by_side else [])]
    return _run_with_progress(build_record(options), outputs)


def _run_with_progress(
    pipeline: Pipeline, outputs: Sequence[Path | str], seconds: float | None = None
) -> int:
    from tqdm import tqdm

    from avatar_stream.running import runner

    with tqdm(unit=" frames", desc="recording", disable=None, mininterval=0.5) as bar:

        def show(_: object) -> None:
            # The source knows its length only once it is open.
            if bar.total is None:
                bar.total = pipeline.source.frame_count
            bar.update()

        report = runner.run(pipeline, on_frame=show, seconds=seconds)
    if report.frames == 0 and not report.interrupted:
        print("avatar-stream: error: the input has no frames; nothing was written", file=sys.stderr)
        return 1
    if report.frames == 0:
        print("avatar-stream: interrupted before the first frame; nothing was written", file=sys.stderr)
        return 130
    if report.with_signer == 0:
        print("avatar-stream: warning: nobody was found in the input; the avatar rests", file=sys.stderr)
    for path in outputs:
        print(path)
    if report.interrupted:
        print(f"avatar-stream: interrupted; the first {report.frames} frames are there", file=sys.stderr)
        return 130
    return 0


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Show the bundled clip of a signer, looping at its own pace, with the avatar live beside it.

    Prints the address of the page, and opens a window where there is a display. Ctrl-C ends it. With --record it
    writes demo.mp4 and demo-side-by-side.mp4 (driver | pose | avatar) instead and prints their paths.
    """
    parser.add_argument("--avatar", metavar="NAME", help="another bundled avatar (default: the first)")
    parser.add_argument("--record", action="store_true", help="write videos instead of showing it live")
    parser.add_argument("--port", type=positive, help="of the page (default: 8080, or the next free one)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("out"),
        metavar="DIR",
        help="with --record: folder, made if missing (default: out)",
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="end it after S seconds")
    add_model_options(parser)


def demo(arguments: argparse.Namespace) -> int:
    """Do what `add_demo` describes."""
    from avatar_stream.places import bundled
    from avatar_stream.running.avatars import list_avatars

    clips = sorted((bundled("assets") / "clips").glob("*.mp4"))
    names = list_avatars()
    if not clips or not names:
        raise ConfigError(
            f"the bundled {'clip' if not clips else 'avatars'} are missing in {bundled('assets')}"
        )
    if arguments.record:
        return _record_demo(arguments, clips[0], arguments.avatar or names[0])
    overrides = [_as_set("avatar", arguments.avatar or names[0]), _as_set("source.path", clips[0])]
    if arguments.port:
        overrides.append(f"server.port={arguments.port}")
    return _run_file(_bundled_pipeline("demo"), overrides + _model_overrides(arguments), arguments.seconds)


def _record_demo(arguments: argparse.Namespace, clip: Path, avatar: str) -> int:
    from avatar_stream.running.pipeline import RecordOptions, build_record

    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {arguments.output}: {error.strerror}") from error
    outputs = [arguments.output / "demo.mp4", arguments.output / "demo-side-by-side.mp4"]
    options = RecordOptions(
        input=clip,
        avatar=avatar,
        output=outputs[0],
        side_by_side=outputs[1],
        synthesizer=arguments.synthesizer,
        size=arguments.size,
        **{key: getattr(arguments, key) for key in _MODEL_KEYS},
    )
    return _run_with_progress(build_record(options), outputs, arguments.seconds)


def add_preview(parser: argparse.ArgumentParser) -> None:
    """Show the avatar live in a window, driven by a camera. Keys are listed in the window."""
    _add_live_options(parser)


def add_broadcast(parser: argparse.ArgumentParser) -> None:
    """Show the avatar live in a web page, driven by a camera: for browsers, and for OBS as a browser source."""
    parser.add_argument("--port", type=positive, help="of the page (default: 8080)")
    parser.add_argument("--host", help="0.0.0.0 lets the whole network see it (default: this machine only)")
    _add_live_options(parser)


def _add_live_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--camera", metavar="N", help="number or path of the camera (default: 0)")
    parser.add_argument(
        "--avatar", metavar="NAME", help='a name that "avatar-stream avatars" shows, or a folder'
    )
    add_model_options(parser)
    _add_run_options(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the pipeline file, for instance source.index=1; may be given again",
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="end it after S seconds")


def preview(arguments: argparse.Namespace) -> int:
    """Do what `add_preview` describes."""
    return _run_file(_bundled_pipeline("preview"), live_overrides(arguments), arguments.seconds)


def broadcast(arguments: argparse.Namespace) -> int:
    """Do what `add_broadcast` describes."""
    return _run_file(_bundled_pipeline("broadcast"), live_overrides(arguments), arguments.seconds)


def live_overrides(arguments: argparse.Namespace) -> list[str]:
    """Return what `--camera 1` and the like are as `--set`: `["source.index=1"]`."""
    named = (
        ("camera", "source.index"),
        ("avatar", "avatar"),
        ("port", "server.port"),
        ("host", "server.host"),
    )
    given = [(key, getattr(arguments, name, None)) for name, key in named]
    overrides = [_as_set(key, value) for key, value in given if value is not None]
    return [*overrides, *_model_overrides(arguments), *arguments.set]


def _model_overrides(arguments: argparse.Namespace) -> list[str]:
    chosen = [] if arguments.synthesizer == "flow" else [f"synthesizer={{type: {arguments.synthesizer}}}"]
    given = [(key, getattr(arguments, key)) for key in _MODEL_KEYS]
    tuned = [_as_set(f"synthesizer.{key}", value) for key, value in given if value is not None]
    return chosen + tuned + ([_as_set("compose.size", arguments.size)] if arguments.size else [])


def _as_set(key: str, value: str | int | Path) -> str:
    # As `--set` takes it. Text is quoted: an avatar called 007 is no number, a folder may have a "#" in its name.
    if isinstance(value, int) or (key == "source.index" and str(value).isdigit()):
        return f"{key}={value}"
    return f"{key}={json.dumps(str(value), ensure_ascii=False)}"


def add_run(parser: argparse.ArgumentParser) -> None:
    """Run a pipeline file: one source, tracker, avatar and composition, any number of outputs at once."""
    parser.add_argument("pipeline", type=Path, metavar="PIPELINE.yaml", help="see the folder pipelines/")
    _add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what `add_run` describes."""
    return _run_file(arguments.pipeline, arguments.set, arguments.seconds)


def _bundled_pipeline(name: str) -> Path:
    from avatar_stream.places import bundled

    return bundled("pipelines") / f"{name}.yaml"


def _run_file(path: Path, overrides: Sequence[str], seconds: float | None) -> int:
    from avatar_stream.running import runner
    from avatar_stream.running.config import load_pipeline
    from avatar_stream.running.pipeline import build_pipeline

    pipeline = build_pipeline(load_pipeline(path, overrides))
    if not pipeline.source.live:
        files = [output.name for output in pipeline.outputs if output.sink.options.file is not None]
        return _run_with_progress(pipeline, files, seconds)
    logging.getLogger("avatar_stream").setLevel(logging.INFO)

    report = runner.run(pipeline, seconds=seconds, on_open=lambda: _tell_addresses(pipeline))
    for failure in report.failures:
        print(f"avatar-stream: error: {' '.join(failure.split())}", file=sys.stderr)
    # Ctrl-C is how a live run ends: nothing went wrong.
    return 1 if report.failures else 0


def _tell_addresses(pipeline: Pipeline) -> None:
    for stage in (pipeline.source, *(output.sink for output in pipeline.outputs)):
        if stage.address:
            print(stage.address, flush=True)
    if pipeline.server is not None and pipeline.server.guard.made:
        # Only one that nobody has chosen is shown; behind "#" it is in no request and no log.
        token, page = pipeline.server.guard.token, "signer" if pipeline.server.ingest.opened else "control"
        print(
            f"token for signers and crews: {token}   {pipeline.server.address}{page}#token={token}",
            flush=True,
        )


def add_check(parser: argparse.ArgumentParser) -> None:
    """Check pipeline files: every mistake at once, with its key, what was given, and what is expected."""
    parser.add_argument("pipelines", nargs="*", type=Path, metavar="PIPELINE.yaml", help="files to check")
    parser.add_argument(
        "--schema", action="store_true", help=f"write pipelines/{_SCHEMA}, the JSON Schema for editors, anew"
    )
    parser.add_argument(
        "--options", action="store_true", help="print every option there is, as docs/options.md"
    )


def check(arguments: argparse.Namespace) -> int:
    """Do what `add_check` describes."""
    from avatar_stream.places import bundled
    from avatar_stream.running.config import load_pipeline
    from avatar_stream.running.config_docs import json_schema, options_page

    if arguments.options:
        print(options_page(), end="")
    if not arguments.pipelines and not arguments.schema and not arguments.options:
        raise ConfigError("nothing to check: name pipeline files, for instance pipelines/preview.yaml")
    if arguments.schema:
        path = bundled("pipelines") / _SCHEMA
        try:
            path.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error
        print(path)
    wrong = 0
    for path in arguments.pipelines:
        try:
            load_pipeline(path)
            print(f"{path}: ok")
        except ConfigError as error:
            print(f"avatar-stream: error: {error}", file=sys.stderr)
            wrong += 1
    return 1 if wrong else 0


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
