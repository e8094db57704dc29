"""The program `avatar-stream`."""

from avatar_stream.cli.arguments import main

__all__ = ["main"]
