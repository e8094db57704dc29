"""Everything this package raises on purpose. The command line prints these as one line and exits with 1.

AvatarStreamError
├── ConfigError       a setting, a name or a file given by the user is wrong
├── SourceError       a clip, camera or pose file cannot be opened or read
├── TrackerError      the pose tracker is missing or cannot start
├── AvatarError       an avatar is unknown, incomplete or without a credit
├── ModelError        weights are unknown, incomplete or do not fit
├── RenderError       OpenGL or a rigged person cannot be used
├── SinkError         an output cannot be opened, written or finished
└── ServerError       the web server cannot be started, or has died

EndOfStream (a source has no more frames) and OutputClosed (the user closed an output) are no errors and end a run
in order.
"""


class AvatarStreamError(Exception):
    """Base of all errors with a message meant for the user: what happened, where, what to do."""


class ConfigError(AvatarStreamError):
    """A setting, a name or a file given by the user is wrong."""


class SourceError(AvatarStreamError):
    """A clip, camera or pose file cannot be opened or read."""


class TrackerError(AvatarStreamError):
    """The pose tracker is missing or cannot start."""


class AvatarError(AvatarStreamError):
    """An avatar is unknown, incomplete or without a credit."""


class ModelError(AvatarStreamError):
    """Weights are unknown, incomplete or do not fit."""


class RenderError(AvatarStreamError):
    """OpenGL or a rigged person cannot be used."""


class SinkError(AvatarStreamError):
    """An output cannot be opened, written or finished."""


class ServerError(AvatarStreamError):
    """The web server cannot be started, or has died."""


class EndOfStream(Exception):
    """Not an error: a source has no more frames."""


class OutputClosed(Exception):
    """Not an error: the user closed an output, and with it the run."""
