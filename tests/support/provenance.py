"""What a recording says of itself to machines, read back."""

import re
from pathlib import Path

import av
from PIL import Image

from avatar_stream.provenance import PNG_KEY, TAG, XMP_BOX


def read_source_type(path: Path) -> str | None:
    """Return the digital source type that a file says of itself, or None.

    Args:
        path: an MP4, WebM or PNG file.
    """
    if path.suffix.lower() == ".png":
        with Image.open(path) as picture:
            return _find(str(picture.info.get(PNG_KEY, "")))
    if path.suffix.lower() == ".mp4":
        return _find(_xmp_of_mp4(path))
    with av.open(str(path)) as container:
        return container.metadata.get(TAG)


def _find(text: str) -> str | None:
    found = re.search(r"DigitalSourceType\W+?(http://[^<\"]+)", text)
    return found[1] if found else None


def _xmp_of_mp4(path: Path) -> str:
    # Only boxes of the file itself are looked at, not what is inside them.
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            skip = size - 8
            if size == 1:
                skip = int.from_bytes(file.read(8), "big") - 16
            if kind == b"uuid" and size > 24:
                name, content = file.read(16), file.read(size - 24)
                if name == XMP_BOX:
                    return content.decode("utf-8", "replace")
                continue
            if size == 0 or skip < 0:
                break
            file.seek(skip, 1)
    return ""
