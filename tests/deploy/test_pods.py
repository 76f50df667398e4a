"""What a container of ours is started with, out of the manifests in ``k8s/base``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.manifests import Manifest, Workload, find_workloads, read_folder
from tests.deploy.pods import Folder, Start, expand, plan_start

BASE = Path(__file__).parents[2] / "k8s/base"
WITNESS = {"STORAGE": "file:/a", "ANCHOR": "file:/b", "POLLED_LOG": "log+1+2=https://log.example"}


def workload_of(folder: str, name: str) -> Workload:
    (found,) = [each for each in find_workloads(read_folder(BASE / folder)) if each.name == name]
    return found


def config_map(name: str, data: dict[str, str]) -> Manifest:
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_a_poll_is_started_with_everything_that_its_manifest_says() -> None:
    """Arguments with values in them, the key readable by the group alone, a /tmp of 16 MiB."""
    maps, secrets = [config_map("witness", WITNESS)], {"witness-key": {"key": "secret\n"}, "witness-s3": {"KEY": "id"}}
    assert plan_start(workload_of("witness", "witness-poll"), maps, secrets) == Start(
        name="witness-poll",
        image="mirrorwitness",
        args=(
            *("witness", "poll", "--once", "--json", "--storage=file:/a", "--anchor=file:/b"),
            *("--key=/etc/witness/keys/key", "--log=log+1+2=https://log.example"),
        ),
        environment={**WITNESS, "KEY": "id"},
        folders={"/etc/witness/keys": Folder({"key": "secret\n"}, 0o440)},
        scratch={"/tmp": 16 * 2**20},
        user=65532,
        group=65532,
    )


def test_a_shard_is_told_its_index() -> None:
    """By the environment, as the controller of an Indexed Job does; the secret is optional."""
    maps = [config_map("mirror", {"MIRRORWITNESS_STORAGE": "file:/a"}), config_map("mirror-config", {"a.toml": "x"})]
    start = plan_start(workload_of("bootstrap", "mirror-bootstrap"), maps, {}, index=5)
    assert start.environment == {"MIRRORWITNESS_STORAGE": "file:/a", "JOB_COMPLETION_INDEX": "5"}
    assert (start.name, start.folders) == ("mirror-bootstrap-5", {"/etc/mirrorwitness": Folder({"a.toml": "x"}, 0o644)})


def test_a_pod_whose_config_is_missing_does_not_start() -> None:
    """As in a cluster, where it waits for ever."""
    with pytest.raises(KeyError, match="mirror"):
        plan_start(workload_of("mirror", "mirror-sync"), [], {})


def test_a_variable_that_is_not_there_stays_as_it_is() -> None:
    """SPEC: unresolved references are left unchanged."""
    assert expand("--a=$(A) $(B) $A", {"A": "1"}) == "--a=1 $(B) $A"
