"""From the signer's pose to the avatar's pose in the canonical signing frame."""

from avatar_stream.retarget.retargeter import Retargeter, RetargetOptions
from avatar_stream.retarget.smoothing import delay_ms

__all__ = ["RetargetOptions", "Retargeter", "delay_ms"]
