"""What messages need: the first line of an error, and addresses without their secrets."""

from __future__ import annotations

from urllib.parse import urlsplit


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type's name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shown_address(url: str, key_in_path: bool = True) -> str:
    """Return an address without user, password and query.

    Args:
        url: any with a scheme.
        key_in_path: hide the last part of the path too: RTMP, RTSP and SRT servers take it for the stream's key.
    """
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if not key_in_path:
        return shown + parts.path + ("?..." if parts.query else "")
    folder, _, key = parts.path.strip("/").rpartition("/")
    return shown + (f"/{folder}" if folder else "") + ("/..." if key else "")


def hide_secrets(text: str, url: str) -> str:
    """Return a message in which the address' secrets are replaced by dots."""
    parts = urlsplit(url)
    text = text.replace(url, shown_address(url))
    for secret in (parts.password, parts.path.strip("/").rpartition("/")[2], parts.query):
        if secret and len(secret) > 3:
            text = text.replace(secret, "...")
    return text
