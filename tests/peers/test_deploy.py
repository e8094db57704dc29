"""The set-ups that ship in deploy/: nginx before our pages and coturn's file run, YAML is what it says."""

import shutil
import subprocess

import pytest
import yaml
from support.certificates import make_certificate
from support.outward import Signer, free_port, reachable, running
from support.pages import visiting, wait_for
from support.places import ROOT
from support.waiting import until

from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.sinks.web import WebSink
from avatar_stream.stages import Context

DEPLOY = ROOT / "deploy"


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is missing: apt-get install nginx")
def test_chromium_watches_by_https_through_nginx(browser, tmp_path):
    certificate, key = make_certificate(tmp_path, "127.0.0.1")
    plain, secure = free_port(), free_port()
    server = Server(ServerOptions(port=0, origins=(f"https://127.0.0.1:{secure}",)))
    sink = WebSink(context=Context(server=server))
    with Signer(sink, size=(320, 240)):
        text = (DEPLOY / "nginx/avatar.conf").read_text()
        for before, after in {
            "/etc/letsencrypt/live/avatar.example.org/fullchain.pem": str(certificate),
            "/etc/letsencrypt/live/avatar.example.org/privkey.pem": str(key),
            "avatar.example.org": "127.0.0.1",
            "listen 80": f"listen 127.0.0.1:{plain}",
            "listen 443": f"listen 127.0.0.1:{secure}",
            "http://127.0.0.1:8080": sink.address.rstrip("/"),
        }.items():
            assert before in text
            text = text.replace(before, after)
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/nginx.pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; include /etc/nginx/mime.types;\n{text}\n}}\n"
        )
        with running(["nginx", "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]):
            until(lambda: reachable(secure))
            address = f"https://127.0.0.1:{secure}/"
            with visiting(browser, address, ignore_https_errors=True) as page:
                wait_for(page, "() => document.querySelector('video').videoWidth === 320")
                assert server.audience.connected == 1


@pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn is missing: apt-get install coturn")
def test_coturn_takes_its_file(tmp_path):
    port = free_port()
    file = tmp_path / "turnserver.conf"
    file.write_text((DEPLOY / "coturn/turnserver.conf").read_text().replace("3478", str(port)))
    command = f"turnserver -c {file} --pidfile {tmp_path}/pid --db {tmp_path}/db".split()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            until(lambda: reachable(port) or process.poll() is not None)
        finally:
            process.terminate()
            said = process.communicate(timeout=10)[0]
    assert "Bad configuration format" not in said and "ERROR" not in said, said


def test_compose_files_name_files_that_are_there():
    files = list(DEPLOY.rglob("compose.yaml"))
    assert files
    for file in files:
        for service in yaml.safe_load(file.read_text())["services"].values():
            for volume in service.get("volumes", ()):
                assert (file.parent / volume.partition(":")[0]).exists(), volume
    mediamtx = yaml.safe_load((DEPLOY / "mediamtx/mediamtx.yml").read_text())
    assert mediamtx["paths"] == {"avatar": {"overridePublisher": True}}
