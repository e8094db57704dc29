"""The command line: one function per command, everything heavy imported inside it."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import inspect
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TextIO

from avatar_stream import __version__
from avatar_stream.cli import commands
from avatar_stream.errors import AvatarStreamError

_OBJECTS_BETWEEN_COLLECTIONS = 20_000
_EXIT = """
exit status:
  0    done
  1    a known error; one line on stderr says what happened, where, and what to do
  2    the command line itself is wrong
  130  interrupted; what was written until then plays
"""


# Libraries that not everybody needs, and the extra of the package that brings them.
_EXTRAS = dict.fromkeys(("torch", "diffusers", "huggingface_hub"), "torch")
_EXTRAS |= dict.fromkeys(("moderngl", "scipy", "matplotlib"), "rig")
_EXTRAS |= dict.fromkeys(("accelerate", "jinja2", "playwright", "psutil", "tensorboard"), "lab")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `avatar-stream`; None: the process' own.

    Returns:
        The exit status: 0 done, 1 known error, 2 wrong usage (argparse exits), 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        # What is imported, 150,000 objects, stays: looking through it again and again takes a tenth of a second at the
        # start and a quarter at the end.
        gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
        atexit.register(gc.freeze)
    if not logging.getLogger().handlers:
        form = "avatar-stream: %(levelname)s: %(message)s"
        logging.basicConfig(format=form, level=logging.WARNING, stream=_own_stderr())
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what the terminal cannot show
    logging.addLevelName(logging.WARNING, "warning")
    logging.addLevelName(logging.INFO, "note")
    try:
        if " ".join(words[:2]) in _COMMANDS:
            words[:2] = [" ".join(words[:2])]
        parsed = _parser(words).parse_args(words)
        status = parsed.command(parsed)
        sys.stdout.flush()
        return status
    except AvatarStreamError as error:
        # A pipeline file's problems have a line each; everything else is one line.
        text = str(error) if hasattr(error, "problems") else " ".join(str(error).split())
        print(f"avatar-stream: error: {text}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(
            f"avatar-stream: error: {error.name} is not installed: pip install 'avatar-stream[{extra}]'",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("avatar-stream: interrupted", file=sys.stderr)
        if arguments is None and threading.active_count() > 1:
            # Who pressed Ctrl-C twice means now; a thread in the middle of an import would hold the end for seconds.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130)
        return 130
    except BrokenPipeError:
        # Whoever read our output is gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _own_stderr() -> TextIO:
    # A tracker that loads points file descriptor 2 elsewhere for a moment, because C++ libraries chatter there; what
    # other threads have to say meanwhile must not be lost.
    try:
        return os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return sys.stderr


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="avatar-stream",
        description="Drive a photographic avatar with a human signer, live or from a clip.",
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


def _add_avatars(parser: argparse.ArgumentParser) -> None:
    """List the avatars that "record" knows by name."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="a list of objects with name, description, license, source_url, consent",
    )


def _avatars(arguments: argparse.Namespace) -> int:
    from avatar_stream.running.avatars import describe_avatar, list_avatars

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
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="compile what this machine needs first (a minute), so that the first start is as fast as others",
    )


def _doctor(arguments: argparse.Namespace) -> int:
    from avatar_stream.cli.doctor import examine, prepare

    if arguments.prepare:
        prepare()
    checks = examine()
    for check in checks:
        mark = "ok" if check.passed else ("MISSING" if check.needed else "note")
        print(f"{mark:<8}{check.name}: {check.finding}")
        if check.advice and not check.passed:
            print(f"{'':<8}  -> {check.advice}")
    failed = [check.name for check in checks if check.needed and not check.passed]
    print("\nEverything that record needs is here." if not failed else f"\nNot ready: {', '.join(failed)}.")
    return 1 if failed else 0


def _elsewhere(module: str) -> tuple[Callable, Callable]:
    """A command whose options and work live beside heavy code: imported only when it is asked for."""

    def add(parser: argparse.ArgumentParser) -> None:
        importlib.import_module(module).add_arguments(parser)

    def run(arguments: argparse.Namespace) -> int:
        return importlib.import_module(module).run(arguments) or 0

    add.__doc__ = None
    return add, run


_COMMANDS: dict[
    str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
] = {
    "demo": ("the bundled clip, live in a page and a window", commands.add_demo, commands.demo),
    "preview": ("a camera in, the avatar in a window", commands.add_preview, commands.preview),
    "broadcast": ("a camera in, the avatar in a web page", commands.add_broadcast, commands.broadcast),
    "record": ("a clip or .pose file in, a video of an avatar out", commands.add_record, commands.record),
    "run": ("run a pipeline file", commands.add_run, commands.run),
    "check": ("check pipeline files", commands.add_check, commands.check),
    "avatars": ("list the avatars", _add_avatars, _avatars),
    "doctor": ("what this machine can do", _add_doctor, _doctor),
    "bench": ("how fast a whole pipeline is here", *_elsewhere("avatar_stream.lab.bench.live")),
    "bench viewers": (
        "what viewers cost, and what each gets",
        *_elsewhere("avatar_stream.lab.bench.viewers"),
    ),
    "bench soak": (
        "whether anything grows in a long broadcast",
        *_elsewhere("avatar_stream.lab.bench.soak"),
    ),
    "bench engines": (
        "how fast the model's engines are here",
        *_elsewhere("avatar_stream.lab.bench.engines"),
    ),
    "bench tracker": (
        "what trackers cost and how well they see",
        *_elsewhere("avatar_stream.lab.bench.trackers"),
    ),
    "evaluate": (
        "how good a model's pictures are",
        *_elsewhere("avatar_stream.lab.evaluation.evaluate"),
    ),
    "judge": (
        "how well an avatar's clip follows its driver's",
        *_elsewhere("avatar_stream.lab.judge.judge"),
    ),
    "render-people": (
        "render rigged people as training data, clips and portraits",
        *_elsewhere("avatar_stream.lab.renders.people"),
    ),
    "prepare-videos": (
        "make training data of any folder of videos",
        *_elsewhere("avatar_stream.lab.training.video_folder"),
    ),
    "train": (
        "train a model from a configuration; goes on from its last checkpoint",
        *_elsewhere("avatar_stream.lab.training.train"),
    ),
    "study-tracker": (
        "measure the tracker's errors on rendered people",
        *_elsewhere("avatar_stream.lab.training.tracker_study"),
    ),
}
_EXAMPLES = {
    "record": """examples:
  avatar-stream record --input clip.mp4 --avatar NAME --output avatar.mp4
  avatar-stream record --input sign.pose --avatar NAME --output avatar.mp4 --side-by-side
  avatar-stream record --input clip.mp4 --avatar NAME --output avatar.webm --background transparent
""",
    "avatars": "examples:\n  avatar-stream avatars\n  avatar-stream avatars --json\n",
    "demo": "examples:\n  avatar-stream demo\n  avatar-stream demo --seconds 10\n  avatar-stream demo --record\n",
    "preview": "examples:\n  avatar-stream preview\n  avatar-stream preview --camera 1 --avatar NAME\n",
    "broadcast": "examples:\n  avatar-stream broadcast\n  avatar-stream broadcast --host 0.0.0.0 --port 8090\n",
    "run": """examples:
  avatar-stream run pipelines/preview.yaml --set source.index=1
  avatar-stream run my.yaml --set synthesizer.steps=2 --set outputs.0.path=a.mp4
""",
    "check": "examples:\n  avatar-stream check pipelines/*.yaml\n  avatar-stream check --schema\n",
    "bench": "examples:\n  avatar-stream bench --input clip.mp4 --seconds 60 --json bench.json\n",
    "bench viewers": "examples:\n  avatar-stream bench viewers --viewers 50 --json viewers.json\n",
    "bench soak": "examples:\n  avatar-stream bench soak --minutes 15 --json soak.json\n",
    "bench engines": "examples:\n  avatar-stream bench engines --json engines.json\n",
    "bench tracker": "examples:\n  avatar-stream bench tracker --input *.mp4 --json trackers.json --overlay out\n",
    "evaluate": "examples:\n  avatar-stream evaluate --model signer-small --avatars --json evaluation.json\n",
    "judge": "examples:\n  avatar-stream judge --driver clip.mp4 --avatar avatar.mp4 --json judged.json\n",
    "study-tracker": "examples:\n  avatar-stream study-tracker --help\n",
    "doctor": "examples:\n  avatar-stream doctor\n",
    "render-people": "examples:\n  avatar-stream render-people --people DIR --output data/people\n",
    "prepare-videos": "examples:\n  avatar-stream prepare-videos --input DIR --output data/videos\n",
    "train": "examples:\n  avatar-stream train configs/train/signer-small.yaml --max-minutes 60\n",
}
