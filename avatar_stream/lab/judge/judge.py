"""`avatar-stream judge`: any avatar clip against the clip that drove it, both through the tracker.

For real input, where no truth exists.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from avatar_stream.lab.evaluation.clips import pair, track_clip
from avatar_stream.lab.figures import check_output, print_figures, write_json
from avatar_stream.lab.judge.compare import judge_pairs
from avatar_stream.lab.judge.portrait import portrait_sharpness
from avatar_stream.lab.judge.report import write_report
from avatar_stream.running.avatars import load_avatar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `judge`."""
    add = parser.add_argument
    add("--driver", type=Path, required=True, metavar="CLIP", help="the signer's clip")
    add(
        "--avatar", type=Path, required=True, metavar="CLIP", help="the avatar's, made from it with its times"
    )
    add(
        "--portrait",
        metavar="NAME",
        help="the avatar that the clip shows, to compare sharpness with its portrait",
    )
    add("--seed", type=int, default=0, help="of the intervals' bootstrap (0)")
    add("--json", type=Path, required=True, metavar="FILE", help="where the figures go")
    add("--report", type=Path, metavar="DIR", help="also write a page with pictures there")


def run(arguments: argparse.Namespace) -> int:
    """Track both clips, print figures, write file and report; AvatarStreamError says in one line why not."""
    check_output(arguments.json)
    portrait = load_avatar(arguments.portrait) if arguments.portrait else None
    clips = [track_clip(path, arguments.report is not None) for path in (arguments.driver, arguments.avatar)]
    pairs = pair(*clips)
    figures = {"driver": arguments.driver.name, "avatar": arguments.avatar.name}
    figures |= {"frames_driver": len(clips[0]), "frames_avatar": len(clips[1])}
    figures |= judge_pairs(pairs, arguments.seed)
    if portrait is not None:
        figures["sharpness_of_portrait"] = portrait_sharpness(arguments.avatar, clips[1], portrait)
    print_figures(figures)
    write_json(arguments.json, figures)
    if arguments.report is not None:
        print(write_report(arguments.report, figures, pairs))
    return 0
