"""What a recording says of itself to machines: that a trained model made the person in it.

IPTC's digital source type (https://cv.iptc.org/newscodes/digitalsourcetype/) as XMP, where platforms and archives look
for it: in MP4 as the XMP specification's `uuid` box (part 3, 1.1.2), in PNG as its text chunk, in WebM as a tag.
Where a certificate is named, MP4 files are signed too (C2PA, https://spec.c2pa.org).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from PIL.PngImagePlugin import PngInfo

from avatar_stream import __version__
from avatar_stream.errors import SinkError
from avatar_stream.options import InputPath, Options

_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
TRAINED = f"{_VOCABULARY}trainedAlgorithmicMedia"
COMPOSITE = f"{_VOCABULARY}compositeWithTrainedAlgorithmicMedia"
TAG = "DIGITAL_SOURCE_TYPE"
XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
PNG_KEY = "XML:com.adobe.xmp"
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmp:CreatorTool="avatar-stream">
   <Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def source_type(composite: bool) -> str:
    """IPTC's address of what a recording is; `composite`: there is more in it than what the model made."""
    return COMPOSITE if composite else TRAINED


def tags(composite: bool) -> dict[str, str]:
    """Tags that every player and `ffprobe` show; MP4 keeps the first one only, WebM both."""
    kind = source_type(composite)
    return {"comment": f"AI-generated person. Digital source type: {kind}", TAG: kind}


def xmp(composite: bool) -> str:
    """The XMP packet."""
    return _XMP.format(source_type=source_type(composite))


def mp4_box(composite: bool) -> bytes:
    """The box that is appended to a finished MP4 file."""
    content = XMP_BOX + xmp(composite).encode()
    return (len(content) + 8).to_bytes(4, "big") + b"uuid" + content


def png_text(composite: bool) -> PngInfo:
    """What Pillow is given as `pnginfo`."""
    text = PngInfo()
    text.add_itxt(PNG_KEY, xmp(composite))
    return text


class Signing(Options):
    """The pipeline file's `c2pa:` section: MP4 recordings are signed with Content Credentials (C2PA)."""

    certificate: InputPath
    """PEM file: the signer's certificate, then those up to the authority's."""
    key: InputPath
    """PEM file of its private key, without a password."""
    algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = "es256"
    """Algorithm of the key."""
    timestamp_url: str | None = None
    """Address of an RFC 3161 authority, so that signatures outlive the certificate; null: without."""

    def check(self) -> None:
        """Find out before a recording whether it can be signed; SinkError where not."""
        self._signer().close()

    def sign(self, path: Path, title: str, composite: bool) -> None:
        """Sign a finished MP4 file in place.

        Args:
            path: the file.
            title: what it will be called.
            composite: there is more in it than what the model made.

        Raises:
            SinkError: it could not be signed; the file is as it was.
        """
        import c2pa

        action = {"action": "c2pa.created", "digitalSourceType": source_type(composite)}
        manifest = {
            "claim_generator_info": [{"name": "avatar-stream", "version": __version__}],
            "title": title,
            "format": "video/mp4",
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
        # The library knows the format by the ending.
        plain, signed = path.with_name(f"{path.name}.plain.mp4"), path.with_name(f"{path.name}.signed.mp4")
        path.rename(plain)
        try:
            with self._signer() as signer, c2pa.Builder(json.dumps(manifest)) as builder:
                builder.sign_file(plain, signed, signer)
            signed.replace(path)
            plain.unlink()
        except (c2pa.C2paError, OSError, SinkError) as error:
            raise SinkError(f"{title} is there, but is not signed: {' '.join(str(error).split())}") from error
        finally:
            if plain.exists():  # whatever went wrong: a recording is never lost for its signature
                plain.replace(path)
            signed.unlink(missing_ok=True)

    def _signer(self) -> Any:
        try:
            import c2pa
        except ImportError as error:
            raise SinkError("signing needs c2pa: pip install avatar-stream[c2pa]") from error
        try:
            chain, key = self.certificate.read_bytes(), self.key.read_bytes()
            return c2pa.Signer.from_info(c2pa.C2paSignerInfo(self.algorithm, chain, key, self.timestamp_url))
        except (c2pa.C2paError, OSError) as error:
            raise SinkError(
                f"cannot sign with {self.certificate} and {self.key}: {' '.join(str(error).split())}"
            ) from error
