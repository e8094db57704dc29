"""Debian's nginx with RTMP, for those who publish."""

import contextlib
import getpass
import shutil
from pathlib import Path

import pytest

from support.outward import reachable, running
from support.waiting import until

NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")

KEY = "secretkey"

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx") is None or not NGINX_MODULE.exists(),
    reason="nginx with RTMP is missing: apt-get install nginx libnginx-mod-rtmp",
)


@contextlib.contextmanager
def nginx(folder: Path, port: int, extra: str = ""):
    """Debian's nginx with nginx-rtmp and an application `live`."""
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"""load_module {NGINX_MODULE};
user {getpass.getuser()}; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
events {{}}
rtmp {{ server {{ listen 127.0.0.1:{port};
  application live {{ live on; {extra} }} }} }}
"""
    )
    with running(["nginx", "-p", str(folder), "-e", "stderr", "-c", str(configuration)]) as process:
        until(lambda: reachable(port))
        yield process


@contextlib.contextmanager
def recording(folder: Path, port: int):
    """The same, which writes down what is published: a function that waits for the file and returns it."""
    (folder / "record").mkdir()
    found = (folder / "record").glob

    def wait() -> Path:
        until(lambda: list(found("*.flv")))
        return next(found("*.flv"))

    with nginx(folder, port, extra=f"record all; record_path {folder}/record;"):
        yield wait
