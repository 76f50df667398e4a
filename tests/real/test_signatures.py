"""Registry signatures survive the mirror: npm and its library verify them against what the mirror serves.

The upstream is the simulator, because the signer has to be ours. npm 8 is the last one whose ``audit signatures`` works
without a network beyond the registry (research/B 6); pacote, called with the served keys, has the current rules.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.fakes.registry import Signer
from tests.fakes.thread import serve_in_thread
from tests.real.clients import (
    CLIENTS,
    make_small_project,
    mirrorwitness,
    node_program,
    run_client,
    run_to_end,
    serve_mirror,
)
from tests.real.servers import NotInstalledError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry
    from tests.real.clients import Network, Outcome

NAMES = ("alpha", "@scope/beta", "gamma")

VERIFY = """
const pacote = require(process.argv[1])
const [registry, ...specs] = process.argv.slice(2)
const key = new URL(registry)
fetch(`${registry}-/npm/v1/keys`).then((answer) => answer.json()).then(async ({ keys }) => {
  const pem = (text) => `-----BEGIN PUBLIC KEY-----\\n${text}\\n-----END PUBLIC KEY-----`
  const known = keys.map((each) => ({ ...each, pemkey: pem(each.key) }))
  const options = { registry, verifySignatures: true, [`//${key.host}${key.pathname}:_keys`]: known }
  const results = {}
  for (const spec of specs) {
    results[spec] = await pacote.manifest(spec, options).then((found) => found._signatures.length, (e) => e.code)
  }
  console.log(JSON.stringify(results))
})
"""


@pytest.fixture
def upstream() -> Iterator[ThreadedRegistry]:
    """Run a registry of three signed packages."""
    with serve_in_thread() as running:
        for name in NAMES:
            running.sim.publish(name, "1.0.0", signer=Signer())
        yield running


def sync(upstream: ThreadedRegistry, storage: Path, *more: str) -> Outcome:
    """Mirror the three packages."""
    where = ("--registry", upstream.url, "--storage", f"file:{storage}")
    return mirrorwitness("sync", "--once", "--json", *where, *more, *NAMES)


def program(pattern: str) -> str:
    """Return an installed file, or skip."""
    try:
        return str(node_program(pattern))
    except NotInstalledError as error:
        pytest.skip(str(error))


def test_npm_verifies_the_served_signatures(upstream: ThreadedRegistry, network: Network, tmp_path: Path) -> None:
    """P4: what npm finds behind the mirror are the registry's own signatures and keys, all valid."""
    program(CLIENTS["npm-8"].program)
    storage = tmp_path / "storage"
    assert sync(upstream, storage, "--signatures", "require").code == 0
    with serve_mirror(storage, network=network, directory=tmp_path / "served") as served:
        project = make_small_project(tmp_path / "npm", CLIENTS["npm-8"], served.url, dict.fromkeys(NAMES, "^1.0.0"))
        installed = run_client(CLIENTS["npm-8"], ("install",), project=project, network=network)
        assert installed.code == 0, installed.output
        audited = run_client(CLIENTS["npm-8"], ("audit", "signatures"), project=project, network=network)
        report = run_client(CLIENTS["npm-8"], ("audit", "signatures", "--json"), project=project, network=network)
    assert "3 packages have verified registry signatures" in audited.output
    assert json.loads(report.output) == {"invalid": [], "missing": []}


def test_pacote_verifies_the_served_signatures(upstream: ThreadedRegistry, network: Network, tmp_path: Path) -> None:
    """P4: npm's library accepts each version under its current rules, and notices one that is not the registry's."""
    library = program("pacote/lib/index.js")
    storage = tmp_path / "storage"
    upstream.sim.publish("delta", "1.0.0")
    assert sync(upstream, storage, "delta").code == 0
    packument = storage / "npm" / "gamma" / "packument.json"
    document = json.loads(packument.read_bytes())
    foreign = Signer().sign("gamma", "1.0.0", "sha512-AAAA")
    document["versions"]["1.0.0"]["dist"]["signatures"] = [foreign]
    packument.chmod(0o644)
    packument.write_text(json.dumps(document))
    specs = [f"{name}@1.0.0" for name in NAMES]
    (tmp_path / "home").mkdir()
    (tmp_path / "project").mkdir()
    with serve_mirror(storage, network=network, directory=tmp_path / "served") as served:
        command = ["node", "-e", VERIFY, library, f"{served.url}/", *specs]
        done = run_to_end(command, project=tmp_path / "project", network=network)
    assert json.loads(done.output) == {"alpha@1.0.0": 1, "@scope/beta@1.0.0": 1, "gamma@1.0.0": "EINTEGRITYSIGNATURE"}
    audited = mirrorwitness("audit", "--json", "--storage", f"file:{storage}")
    kinds = {(each["kind"], each["name"]) for each in json.loads(audited.output)["findings"]}
    assert audited.code == 4
    assert ("bad-signature", "gamma") in kinds
    assert {name for _, name in kinds} == {"gamma"}


@pytest.mark.parametrize(
    ("signatures", "policy", "code", "blocked"),
    [
        ("stripped", "require", 0, "blocked_unsigned"),
        ("altered", "require", 4, "blocked_signature"),
        ("altered", "verify", 4, "blocked_signature"),
    ],
)
def test_row_12_a_bad_signature_is_not_mirrored(
    upstream: ThreadedRegistry, tmp_path: Path, *, signatures: str, policy: str, code: int, blocked: str
) -> None:
    """P1: neither a version without the required signature nor one with a bad signature gets in; the others do."""
    dist = upstream.sim.edit_packument("gamma")["versions"]["1.0.0"]["dist"]
    if signatures == "stripped":
        del dist["signatures"]
    else:
        dist["signatures"] = [Signer().sign("gamma", "1.0.0", "sha512-AAAA")]
    storage = tmp_path / "storage"
    done = sync(upstream, storage, "--signatures", policy)
    counts = json.loads(done.output)["counts"]
    assert (done.code, counts[blocked], counts["signature_verified"]) == (code, 1, 2)
    assert list((storage / "npm").glob("gamma/**/*")) == []
    assert sorted(path.name for path in storage.glob("npm/**/*.tgz")) == ["alpha-1.0.0.tgz", "beta-1.0.0.tgz"]
