"""What a recording says of itself, read back as platforms and archives read it."""

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from support.provenance import read_source_type
from support.stages import opened

from avatar_stream import provenance
from avatar_stream.errors import SinkError
from avatar_stream.sinks.picture_folder import PictureFolderSink
from avatar_stream.sinks.video_file import VideoFileSink
from avatar_stream.stages import Context
from avatar_stream.types import Frame

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


def writing(path, **options):
    kind = VideoFileSink if path.suffix else PictureFolderSink
    return kind(kind.Options(path=path), Context(**options))


def record(path, **options):
    with opened(writing(path, **options)) as sink:
        write(sink)
    return path


def write(sink):
    for index in range(5):
        sink.write(Frame(np.full((64, 64, 3), 20 * index, np.uint8), index / 25, index))


def probe(path):
    """What ffprobe tells; it counts the pictures that play."""
    if shutil.which("ffprobe") is None:
        pytest.skip("there is no ffprobe")
    command = "ffprobe -v error -count_frames -show_format -show_streams -of json".split()
    told = json.loads(subprocess.run([*command, str(path)], capture_output=True, check=True).stdout)
    return told["format"]["tags"], int(told["streams"][0]["nb_read_frames"])


@pytest.mark.parametrize(("composite", "expected"), [(False, TRAINED), (True, COMPOSITE)])
@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_every_video_says_what_it_is(tmp_path, ending, composite, expected):
    path = record(tmp_path / f"video{ending}", composite=composite)
    assert read_source_type(path) == expected
    tags, frames = probe(path)
    assert any(expected in value for value in tags.values())
    assert frames == 5, "it still plays"


def test_the_packet_in_an_mp4_is_xmp_in_its_own_box(tmp_path):
    content = record(tmp_path / "video.mp4").read_bytes()
    place = content.index(bytes.fromhex("be7acfcb97a942e89c71999491e3afac"))
    assert content[place - 4 : place] == b"uuid"
    size = int.from_bytes(content[place - 8 : place - 4], "big")
    assert place - 8 + size == len(content)
    packet = content[place + 16 :].decode()
    assert packet.startswith("<?xpacket begin=") and packet.endswith('<?xpacket end="r"?>')


def test_pictures_say_it_too(tmp_path):
    folder = record(tmp_path / "pictures")
    for path in sorted(folder.iterdir()):
        assert read_source_type(path) == TRAINED
    with Image.open(path) as picture:
        packet = picture.info["XML:com.adobe.xmp"]
    root = ElementTree.fromstring(packet[packet.index("<x:xmpmeta") : packet.index("<?xpacket end")])
    assert root.find(".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType").text == TRAINED


def test_a_file_of_others_says_nothing(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "plain.png")
    assert read_source_type(tmp_path / "plain.png") is None
    (tmp_path / "short.mp4").write_bytes(b"\0\0\0\x08free\0\0\0")
    assert read_source_type(tmp_path / "short.mp4") is None


@pytest.fixture
def credentials(tmp_path):
    """A signer's certificate of a self-made authority, and its key: two PEM files."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    made = ("signer", key, root_key, False), ("root", root_key, root_key, True)
    chain = [make_certificate(*each) for each in made]
    pem = serialization.Encoding.PEM
    (tmp_path / "chain.pem").write_bytes(b"".join(each.public_bytes(pem) for each in chain))
    bare = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(bare)
    return {"certificate": tmp_path / "chain.pem", "key": tmp_path / "key.pem"}


def make_certificate(name, key, root_key, authority):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    def named(text):
        organization = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "A station")
        return x509.Name([organization, x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    sign_certificates = sign_lists = authority
    usage = x509.KeyUsage(not authority, *[False] * 4, sign_certificates, sign_lists, False, False)
    made = (
        x509.CertificateBuilder(named("root"), named(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(authority, None), True)
        .add_extension(usage, True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False)
    )
    if not authority:
        mail = x509.ExtendedKeyUsageOID.EMAIL_PROTECTION
        made = made.add_extension(x509.ExtendedKeyUsage([mail]), False)
    return made.sign(root_key, hashes.SHA256())


def test_a_signed_recording_is_verified_and_a_changed_one_is_not(tmp_path, credentials):
    import c2pa

    path = record(tmp_path / "video.mp4", composite=True, signing=provenance.Signing(**credentials))
    manifest, state = read_manifest(c2pa, path)
    action = next(each for each in manifest["assertions"] if each["label"].startswith("c2pa.actions"))
    assert action["data"]["actions"][0]["digitalSourceType"] == COMPOSITE
    assert manifest["title"] == "video.mp4" and state == set()
    assert read_source_type(path) == COMPOSITE and probe(path)[1] == 5
    assert sorted(each.name for each in tmp_path.iterdir()) == ["chain.pem", "key.pem", "video.mp4"]
    content = bytearray(path.read_bytes())
    content[content.index(b"mdat") + 40] ^= 1
    (tmp_path / "changed.mp4").write_bytes(content)
    assert "assertion.bmffHash.mismatch" in read_manifest(c2pa, tmp_path / "changed.mp4")[1]


def read_manifest(c2pa, path):
    """The active manifest, and what is wrong with it but that nobody knows its authority."""
    with c2pa.Reader(path) as reader:
        told = json.loads(reader.json())
    wrong = {each["code"] for each in told.get("validation_status", [])}
    return told["manifests"][told["active_manifest"]], wrong - {"signingCredential.untrusted"}


def test_a_wrong_key_is_told_before_the_recording(tmp_path, credentials):
    credentials["key"].write_text("no key")
    with pytest.raises(SinkError, match="cannot sign with .*key.pem"):
        writing(tmp_path / "video.mp4", signing=provenance.Signing(**credentials)).open()


def test_a_recording_whose_key_went_away_meanwhile_is_kept(tmp_path, credentials):
    sink = writing(tmp_path / "video.mp4", signing=provenance.Signing(**credentials))
    sink.open()
    write(sink)
    credentials["key"].unlink()
    with pytest.raises(SinkError, match="video.mp4 is there, but is not signed: .*key.pem"):
        sink.close()
    assert probe(tmp_path / "video.mp4")[1] == 5
    assert sorted(each.name for each in tmp_path.iterdir()) == ["chain.pem", "video.mp4"]
