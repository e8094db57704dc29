"""The command line: one function per command, everything heavy imported inside it."""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from avatar_stream import __version__
from avatar_stream.errors import AvatarStreamError, ConfigError

_EXIT = """
exit status:
  0    done
  1    a known error; one line on stderr says what happened, where, and what to do
  2    the command line itself is wrong
  130  interrupted; what was written until then plays
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `avatar-stream`; None: the process' own.

    Returns:
        The exit status: 0 done, 1 known error, 2 wrong usage (argparse exits), 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="avatar-stream: %(levelname)s: %(message)s", level=logging.WARNING)
    logging.addLevelName(logging.WARNING, "warning")
    try:
        parsed = _parser(words).parse_args(words)
        status = parsed.command(parsed)
        sys.stdout.flush()
        return status
    except AvatarStreamError as error:
        print(f"avatar-stream: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("avatar-stream: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output is gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="avatar-stream",
        description="Drive a photographic avatar with a human signer: a clip of a signer in, the avatar out.",
        epilog='"avatar-stream COMMAND --help" explains a command.' + "\n" + _EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"avatar-stream {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    named = next((word for word in words if not word.startswith("-")), None)
    for name, (summary, add, command) in _COMMANDS.items():
        description = inspect.cleandoc(add.__doc__ or summary)
        sub = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=_EXAMPLES[name] + _EXIT,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        # Some commands' options live beside their code, which imports torch: only where they are asked for.
        if name == named:
            add(sub)
    return parser


def _add_record(parser: argparse.ArgumentParser) -> None:
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
    _add_model_options(parser)
    parser.add_argument(
        "--background", help="a colour (white, '#dde4ec'), a picture file, or transparent (webm, PNG)"
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
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
        "--steps", type=_positive, metavar="N", help="steps of the flow a frame, 1 to 50 (default: 1)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        help="of the flow's noise; one seed, one machine: the same bits (default: the model's)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one, else cpu)")


def _record(arguments: argparse.Namespace) -> int:
    from avatar_stream.pipeline import RecordOptions, build_record

    side_by_side = arguments.side_by_side
    if side_by_side is not None:
        named = f"{arguments.output.stem}-side-by-side.mp4"
        side_by_side = Path(side_by_side) if side_by_side else arguments.output.with_name(named)
    options = RecordOptions(
        input=arguments.input,
        avatar=arguments.avatar,
        output=arguments.output,
        side_by_side=side_by_side,
        synthesizer=arguments.synthesizer,
        model=arguments.model,
        steps=arguments.steps,
        seed=arguments.seed,
        device=arguments.device,
        background=arguments.background,
    )
    return _run_with_progress(
        build_record(options), [options.output, *([side_by_side] if side_by_side else [])]
    )


def _run_with_progress(pipeline, outputs: Sequence[Path]) -> int:
    from tqdm import tqdm

    with tqdm(unit=" frames", desc="recording", disable=None, mininterval=0.5) as bar:

        def show(_: object) -> None:
            # The source knows its length only once it is open.
            if bar.total is None:
                bar.total = getattr(pipeline.source, "frame_count", None)
            bar.update()

        report = pipeline.run(on_frame=show)
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


def _add_avatars(parser: argparse.ArgumentParser) -> None:
    """List the avatars that "record" knows by name."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="a list of objects with name, description, license, source_url, consent",
    )


def _avatars(arguments: argparse.Namespace) -> int:
    from avatar_stream.avatars import describe_avatar, list_avatars

    found = [describe_avatar(name) for name in list_avatars()]
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    if not found:
        print("no avatars are installed", file=sys.stderr)
    for avatar in found:
        print(f"{avatar['name']:<16} {avatar['description'] or avatar['license']}".rstrip())
    return 0


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    """Say in plain words what this machine can do, and what to do about what it cannot.

    The exit status is 1 if something is missing that "record" needs.
    """


def _doctor(_: argparse.Namespace) -> int:
    from avatar_stream.doctor import examine

    checks = examine()
    for check in checks:
        mark = "ok" if check.passed else ("MISSING" if check.needed else "note")
        print(f"{mark:<8}{check.name}: {check.finding}")
        if check.advice and not check.passed:
            print(f"{'':<8}  -> {check.advice}")
    failed = [check.name for check in checks if check.needed and not check.passed]
    print("\nEverything that record needs is here." if not failed else f"\nNot ready: {', '.join(failed)}.")
    return 1 if failed else 0


def _add_demo(parser: argparse.ArgumentParser) -> None:
    """Record the bundled clip of a signer with a bundled avatar.

    Writes demo.mp4 and demo-side-by-side.mp4 (driver | pose | avatar) and prints their paths.
    """
    parser.add_argument("--avatar", metavar="NAME", help="another bundled avatar (default: the first)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("out"),
        metavar="DIR",
        help="folder, made if missing (default: out)",
    )
    _add_model_options(parser)


def _demo(arguments: argparse.Namespace) -> int:
    from avatar_stream.avatars import list_avatars
    from avatar_stream.pipeline import RecordOptions, build_record
    from avatar_stream.places import bundled

    clips = sorted((bundled("assets") / "clips").glob("*.mp4"))
    names = list_avatars()
    if not clips or not names:
        raise ConfigError(
            f"the bundled {'clip' if not clips else 'avatars'} are missing in {bundled('assets')}"
        )
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {arguments.output}: {error.strerror}") from error
    outputs = [arguments.output / "demo.mp4", arguments.output / "demo-side-by-side.mp4"]
    fields = ("synthesizer", "model", "steps", "seed", "device")
    options = RecordOptions(
        input=clips[0],
        avatar=arguments.avatar or names[0],
        output=outputs[0],
        side_by_side=outputs[1],
        **{field: getattr(arguments, field) for field in fields},
    )
    return _run_with_progress(build_record(options), outputs)


def _add_render_people(parser: argparse.ArgumentParser) -> None:
    """Render rigged people as training data, clips and portraits."""
    from avatar_stream.rendering import people

    people.add_arguments(parser)


def _render_people(arguments: argparse.Namespace) -> int:
    from avatar_stream.rendering import people

    return people.run(arguments) or 0


def _add_prepare_videos(parser: argparse.ArgumentParser) -> None:
    """Make training data of any folder of videos: poses by the tracker, mattes by a segmenter.

    Every shot becomes a person of the data set. Frames are kept in which body, face and hands are found; a
    hand may be missing where it is out of the picture. What cannot be read or used costs one warning. An
    interrupted run goes on where it was when it is started again.
    """
    from avatar_stream.training import video_folder

    video_folder.add_arguments(parser)


def _prepare_videos(arguments: argparse.Namespace) -> int:
    from avatar_stream.training import video_folder

    count = video_folder.run(arguments)
    print(f"{arguments.output}: {count} pictures")
    return 0


def _add_train(parser: argparse.ArgumentParser) -> None:
    """Train a model from a configuration; goes on from its last checkpoint."""
    from avatar_stream.training import train

    train.add_arguments(parser)


def _train(arguments: argparse.Namespace) -> int:
    from avatar_stream.training import train

    logging.getLogger("avatar_stream").setLevel(logging.INFO)
    return train.run(arguments) or 0


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


_COMMANDS: dict[
    str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
] = {
    "record": ("a clip or .pose file in, a video of an avatar out", _add_record, _record),
    "avatars": ("list the avatars", _add_avatars, _avatars),
    "demo": ("record the bundled clip", _add_demo, _demo),
    "doctor": ("what this machine can do", _add_doctor, _doctor),
    "render-people": ("render rigged people as data", _add_render_people, _render_people),
    "prepare-videos": ("make training data of videos", _add_prepare_videos, _prepare_videos),
    "train": ("train a model", _add_train, _train),
}
_EXAMPLES = {
    "record": """examples:
  avatar-stream record --input clip.mp4 --avatar NAME --output avatar.mp4
  avatar-stream record --input sign.pose --avatar NAME --output avatar.mp4 --side-by-side
  avatar-stream record --input clip.mp4 --avatar NAME --output avatar.webm --background transparent
""",
    "avatars": "examples:\n  avatar-stream avatars\n  avatar-stream avatars --json\n",
    "demo": "examples:\n  avatar-stream demo\n  avatar-stream demo --steps 4 --output somewhere\n",
    "doctor": "examples:\n  avatar-stream doctor\n",
    "render-people": "examples:\n  avatar-stream render-people --people DIR --output data/people\n",
    "prepare-videos": "examples:\n  avatar-stream prepare-videos --input DIR --output data/videos\n",
    "train": "examples:\n  avatar-stream train configs/train/signer-small.yaml --max-minutes 60\n",
}
