"""What ``terraform/`` says of the product is what the product says: prefixes, names, kinds of keys, ages of answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from mirrorwitness.logmirror.paths import PUBLIC_PREFIX as LOGMIRROR_PREFIX
from mirrorwitness.logmirror.roles import ARTIFACTS
from mirrorwitness.mirror.layout import PUBLIC_PREFIXES
from mirrorwitness.run import kms
from mirrorwitness.server import answers, sumdb
from mirrorwitness.server.options import ServeOptions
from mirrorwitness.server.registry import TARBALL_MAX_AGE_SECONDS
from mirrorwitness.storage.address import S3Address, parse_address
from mirrorwitness.sumdb.paths import LOG_PREFIX
from mirrorwitness.witness.records import PUBLIC_PREFIX as WITNESS_PREFIX

ROOT: Final = Path(__file__).parents[2]
MODULES: Final = ROOT / "terraform" / "modules"
ROLES: Final[dict[str, Any]] = json.loads((MODULES / "identity/decisions/roles.json").read_bytes())
KINDS: Final[dict[str, Any]] = json.loads((MODULES / "bucket/decisions/kinds.json").read_bytes())


def read(name: str) -> str:
    return (MODULES / name).read_text("utf-8")


def test_the_public_part_is_what_the_product_calls_public() -> None:
    """Prefix by prefix; nothing else is."""
    assert {kind: each["public"] for kind, each in KINDS.items()} == {
        "mirror": list(PUBLIC_PREFIXES),
        "sumdb": [LOG_PREFIX],
        "witness": [WITNESS_PREFIX],
        "anchor": [WITNESS_PREFIX],
        "logmirror": [LOGMIRROR_PREFIX, ARTIFACTS.public],
    }


def test_what_is_swapped_or_kept_is_never_thrown_away_by_age() -> None:
    """Of a witness, its anchor and a log mirror no version ever; of the others no evidence."""
    aged = {kind: each["versioned"] for kind, each in KINDS.items()}
    assert [kind for kind, prefixes in aged.items() if not prefixes] == ["witness", "anchor", "logmirror"]
    assert not any(prefix.startswith("evidence/") for prefixes in aged.values() for prefix in prefixes)


def test_roles_have_the_names_of_service_accounts() -> None:
    """The service accounts of ``k8s/base`` are those that take the roles on."""
    files = (ROOT / "k8s/base").glob("*/account.yaml")
    accounts = [each["metadata"]["name"] for path in files for each in yaml.safe_load_all(path.read_text("utf-8"))]
    assert sorted(accounts) == sorted(ROLES)


@pytest.mark.parametrize("file", sorted((ROOT / "k8s/overlays").glob("*/*.env")), ids=lambda path: path.name)
def test_overlays_name_buckets_as_terraform_does(file: Path) -> None:
    """One bucket for each role, without a prefix: policies are about keys from the beginning."""
    lines = dict(line.split("=", 1) for line in file.read_text("utf-8").splitlines())
    for name in ("MIRRORWITNESS_STORAGE", "STORAGE", "ANCHOR"):
        if name in lines:
            address = parse_address(lines[name])
            assert isinstance(address, S3Address)
            assert address.prefix == ""


@pytest.mark.parametrize("module", sorted(path.name for path in MODULES.iterdir()))
def test_a_module_hands_on_the_variables_of_its_decisions(module: str) -> None:
    """Each has the text of its decisions' variables, and more behind it."""
    assert read(f"{module}/variables.tf").startswith(read(f"{module}/decisions/variables.tf"))
    names = re.findall(r'(?m)^variable "([a-z_]+)"', read(f"{module}/decisions/variables.tf"))
    given = re.findall(r"(?m)^  ([a-z_]+) += var\.([a-z_]+)$", read(f"{module}/main.tf").partition("\n}\n")[0])
    assert sorted(given) == sorted((name, name) for name in names)


def test_kinds_and_roles_are_those_of_the_data() -> None:
    """What a variable takes is what the data file has."""
    (kinds,) = re.findall(r"contains\((\[[^]]*\]), var\.kind\)", read("bucket/decisions/variables.tf"))
    (roles,) = re.findall(r"contains\((\[[^]]*\]), role\)", read("identity/decisions/variables.tf"))
    assert (json.loads(kinds), sorted(json.loads(roles))) == (list(KINDS), sorted(ROLES))


def test_keys_are_of_the_kinds_that_the_witness_signs_with() -> None:
    """By KMS's names for them, and for what they sign."""
    found = re.findall(r'= \{ key = "(\w+)", signing = "(\w+)" \}', read("kms/decisions/main.tf"))
    assert sorted(found) == sorted((kms._SPECS[kind], kms._ALGORITHMS[kind]) for kind in kms._SPECS)


def test_an_edge_keeps_answers_as_long_as_our_servers_say() -> None:
    """A year, five minutes, five seconds."""
    text = read("edge/decisions/main.tf")
    assert re.findall(r"year = ([0-9]+)", text) == [str(TARBALL_MAX_AGE_SECONDS)]
    assert set(re.findall(r"seconds = ([0-9]+)", text)) == {str(sumdb.MAX_AGE)} == {str(answers.CHECKPOINT_MAX_AGE)}
    (variable,) = re.findall(r'(?s)variable "document_seconds" \{.*?\n\}', read("edge/decisions/variables.tf"))
    assert re.findall(r"default += ([0-9]+)", variable) == [str(ServeOptions().packument_max_age)]
