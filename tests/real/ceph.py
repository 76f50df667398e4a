"""A whole small Ceph on loopback, started by hand: one monitor, one OSD in memory, one object gateway (RGW).

Authentication inside the cluster is off (everything listens on loopback only); S3 requests are signed as anywhere.
Two settings are there because the gateway otherwise never comes up: `ms_mon_client_mode=crc` (it asks for `secure`,
which needs the authentication that is off) and one replica (`osd_pool_default_size=1`, `osd_crush_chooseleaf_type=0`).
`osd_max_object_name_len` must stay at its default: a lower one makes 1,000-byte keys fail with 500.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.real.servers import (
    ACCESS_KEY,
    SECRET_KEY,
    START_SECONDS,
    S3Server,
    free_ports,
    program,
    run_process,
    wait_for_http,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["rgw"]

_CONFIGURATION: Final = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
mon_allow_pool_size_one = true
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 4294967296
mon_data = {directory}/mon
osd_data = {directory}/osd
run_dir = {directory}
admin_socket =
log_file =
mon_cluster_log_file = {directory}/cluster.log
log_to_stderr = true
err_to_stderr = true
keyring = {directory}/keyring
rgw_data = {directory}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{rgw}
rgw_enable_usage_log = false
rgw_thread_pool_size = 64
"""


@contextlib.contextmanager
def rgw() -> Iterator[S3Server]:
    """Run a Ceph cluster with an object gateway; ready when the gateway answers."""
    mon, osd, gateway, admin, tool = (
        program(name, part="rgw") for name in ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")
    )
    mon_v2, mon_v1, port = free_ports(3)
    fsid = str(uuid.uuid4())
    with tempfile.TemporaryDirectory(prefix="mw-rgw-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        for part in ("mon", "osd", "rgw"):
            (directory / part).mkdir()
        conf = str(directory / "ceph.conf")
        Path(conf).write_text(
            _CONFIGURATION.format(fsid=fsid, mon_v2=mon_v2, mon_v1=mon_v1, rgw=port, directory=directory)
        )
        monmap = str(directory / "monmap")
        addresses = f"[v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]"
        _run(tool, "--create", "--fsid", fsid, "--addv", "a", addresses, monmap)
        _run(mon, "-c", conf, "--mkfs", "-i", "a", "--monmap", monmap)
        with run_process([mon, "-f", "-c", conf, "-i", "a"], directory=directory):
            osd_uuid = str(uuid.uuid4())
            _run(program("ceph", part="rgw"), "-c", conf, "osd", "new", osd_uuid)
            _run(osd, "-c", conf, "--mkfs", "-i", "0", "--osd-uuid", osd_uuid)
            with run_process([osd, "-f", "-c", conf, "-i", "0"], directory=directory):
                _run(
                    *(admin, "-c", conf, "user", "create", "--uid=mirrorwitness", "--display-name=mirrorwitness"),
                    *("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY),
                )
                command = [gateway, "-f", "-c", conf, "-n", "client.rgw.a"]
                with run_process(command, directory=directory) as process:
                    log = directory / f"{Path(gateway).name}.log"
                    endpoint = f"http://127.0.0.1:{port}"
                    wait_for_http(process, endpoint)
                    credentials = (ACCESS_KEY, SECRET_KEY)
                    yield S3Server("rgw", endpoint, "default", *credentials, process.pid, log, tuple(command))


def _run(*command: str) -> None:
    started = time.monotonic()
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=START_SECONDS,
        check=False,
        # ceph-common would read the operator's own cluster otherwise.
        env={**os.environ, "CEPH_ARGS": ""},
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace")[-4000:]
        raise RuntimeError(f"{' '.join(command)} failed after {time.monotonic() - started:.1f} s:\n{output}")
