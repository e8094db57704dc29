"""Write trained weights as a model folder to ship: bf16, with a model card that says how they were made.

scripts/publish_model.py runs/signer-small-crisp/weights models/signer-small --after runs/signer-small/weights \
    --data data/people
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from avatar_stream.lab.training.ranges import measure_ranges
from avatar_stream.modeling.pipeline import SignerPipeline

CARD = """---
license: apache-2.0
library_name: diffusers
tags: [sign-language, pose-guided-synthesis, flow-matching]
---

# {name}

Pose-guided synthesis of a signer for avatar_stream: latent flow matching (after RPFM, arXiv 2505.03562) with
twin networks (after TruePose, arXiv 2502.03426). {target:.1f} M parameters run per frame and step, {source:.1f} M
once per avatar; bf16.

| | |
|---|---|
| Trained by | `avatar-stream train` of this repository: docs/training.md |
| Trained for | {minutes} minutes, {steps} steps, {samples} target poses |
| Trained on | renderings of people of the Validated Avatar Library (MIT), random signing, disturbed poses |
| Never trained on | people whose file begins with {exclude}; any picture of a real person |
| In | one or more RGBA pictures of a person with their poses, and target poses, in the canonical signing frame |
| Out | RGBA of 512, 768 or 1024 px, straight alpha, the matte from the model |
| Texture | from the pictures at full resolution, moved and mixed in as the model says |

Limits: it has seen rendered people only; a photograph of a real person is outside its training. With one picture
turned hands can show the wrong side; crossed fingers merge, the inside of the mouth is simple. Not
for making a person say what they did not: show only people who agreed, and say that the picture is generated.
"""


def main() -> None:
    """Convert and describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--after", type=Path, action="append", default=[], help="earlier runs, which count")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        help="data set to measure the ranges of eight bits on",
    )
    arguments = parser.parse_args()
    pipe = SignerPipeline.from_pretrained(arguments.weights, torch_dtype=torch.float32)
    if arguments.data:
        pipe.register_to_config(ranges=measure_ranges(pipe, arguments.data))
    for network in (pipe.source_net, pipe.target_net):
        network.to(torch.bfloat16)
    pipe.save_pretrained(str(arguments.output))
    forget_places(arguments.output)
    told = json.loads((arguments.weights / "training.json").read_text())
    for earlier in arguments.after:
        before = json.loads((earlier / "training.json").read_text())
        for key in ("steps", "samples", "trained_minutes"):
            told[key] = round(told[key] + before[key], 1)
    (arguments.output / "training.json").write_text(json.dumps(_without_places(told), indent=1) + "\n")
    sizes = [sum(p.numel() for p in net.parameters()) / 1e6 for net in (pipe.source_net, pipe.target_net)]
    card = CARD.format(
        name=arguments.output.name, source=sizes[0], target=sizes[1], steps=told["steps"], samples=told["samples"],
        minutes=round(told["trained_minutes"]), exclude=", ".join(told["config"]["data"]["exclude"]),
    )  # fmt: skip
    (arguments.output / "README.md").write_text(card)


def forget_places(model: Path) -> None:
    """Take out of the networks' files from where diffusers loaded them."""
    for path in model.glob("*/config.json"):
        kept = json.loads(path.read_text())
        kept.pop("_name_or_path", None)
        path.write_text(json.dumps(kept, indent=2) + "\n")


def _without_places(told: dict) -> dict:
    """Folders of the training machine mean nothing to others."""
    config, data = told["config"], told["config"]["data"]
    config["output"] = Path(config["output"]).name
    data["folders"] = [Path(folder).name for folder in data["folders"]]
    if data.get("people"):
        data["people"] = Path(data["people"]).name
    return told


if __name__ == "__main__":
    main()
