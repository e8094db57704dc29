"""Where a server listens, and how others reach it."""

from __future__ import annotations

import errno
import socket

from avatar_stream.errors import ServerError


def listen(host: str, port: int, search: int = 0) -> socket.socket:
    """Listen at the first free port of `port` ... `port + search`.

    Raises:
        ServerError: all are taken, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, port + search + 1):
        try:
            return socket.create_server((host, candidate), family=family)
        except OverflowError:
            break
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno != errno.EADDRINUSE:
                raise ServerError(
                    f"cannot serve at {host}:{candidate} ({error.strerror or error}): host must be an address of "
                    "this machine, 127.0.0.1 or 0.0.0.0, and ports below 1024 need rights"
                ) from error
    if search:
        raise ServerError(
            f"the ports {port} to {port + search} of {host} are all taken: give another with --port"
        )
    raise ServerError(
        f"port {port} of {host} is taken by another program: give another with --port {port + 1}"
    )


def reachable_host(host: str) -> str:
    """Return what stands in an address that leads to a server at `host`, also where that is 0.0.0.0 or ::."""
    if host == "0.0.0.0":
        # The address by which this machine is known in its network; nothing is sent to find it out.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))
                return probe.getsockname()[0]
            except OSError:
                return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
