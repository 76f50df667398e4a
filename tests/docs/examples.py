"""The JSON documents of the reference: printed by the real commands over a registry of our own, one story for all.

The commands of a witness have their own story over logs of our own (`tests.docs.witness_examples`).

What differs from run to run or between machines (addresses, times, digests and sizes of compressed files, the
software's version) is replaced; everything else is as printed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from mirrorwitness.cli import main
from tests.docs.bundle_examples import make_bundle_examples
from tests.docs.check_examples import make_check_examples
from tests.docs.logmirror_examples import make_logmirror_examples
from tests.docs.sumdb_examples import make_sumdb_examples
from tests.docs.witness_examples import make_witness_examples
from tests.fakes.registry import Fault, Signer
from tests.fakes.served_mirror import serve_mirror

if TYPE_CHECKING:
    from tests.fakes.thread import ThreadedRegistry

__all__ = ["make_examples"]

_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_MONTH = re.compile(r"^20\d\d-\d\d$")
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_STONE = re.compile(r"(security-holder-)[0-9a-f]{16}\b")
_SRI = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")
_SOFTWARE = re.compile(r"^mirrorwitness/[\w.]+$")
_LONGEST_TEXT = 120
"""Characters of a text that an example shows; only the text of `init` and sentences for people are longer."""

_SIZES = frozenset({"bytes", "bytes_downloaded", "received_bytes"})
_SIZE = 512


def make_examples(registry: ThreadedRegistry) -> dict[str, str]:
    """Run every command that has ``--json`` in the working directory, which must be empty.

    Returns:
        Name → the document it printed, as indented JSON.
    """
    sim = registry.sim
    sim.keys = []
    sim.publish("left", "1.0.0", files={"index.js": b"1"})
    sim.publish("left", "2.0.0", files={"index.js": b"2"})
    sim.publish("@scope/right", "1.0.0", files={"index.js": b"r"}, signer=Signer())
    sim.publish("wrong", "1.0.0", files={"index.js": b"w"})
    sim.fail("/left/-/left-2.0.0.tgz", Fault.status(404), times=99)
    sim.replace_bytes("wrong", "1.0.0", b"other bytes")
    Path(".npmrc").write_text(f"registry={registry.url}\n@corp:registry=https://npm.corp.example/\n", encoding="utf-8")
    found: dict[str, Any] = {
        "init": _run(registry, "init", "left"),
        "error": _run(registry, "sync", "--once", "--storage", "file:mirror", "left@not a range"),
        "plan": _run(registry, "plan", "left", "@scope/right", "left@9.9.9", "absent"),
    }
    text = Path("mirrorwitness.toml").read_text(encoding="utf-8")
    Path("mirrorwitness.toml").write_text(text.replace('"left"', '"left", "@scope/right", "wrong"'), encoding="utf-8")
    found["sync"] = _run(registry, "sync", "--once")
    found["status"] = _run(registry, "status")
    found["about"] = _normalise(json.loads(Path("mirror/about/mirror.json").read_bytes()), registry)
    Path("mirror/npm/left/-/left-1.0.0.tgz").write_bytes(b"altered")
    Path("mirror/npm/@scope/right/-/right-1.0.0.tgz").unlink()
    sim.fail("@scope/right", Fault.status(403), times=99)
    found["audit"] = _run(registry, "audit", "--repair")
    found["audit"]["findings"].sort(key=lambda finding: finding["name"])
    found["summarize"] = _run(registry, "summarize", "--storage", "file:mirror")
    found["compare"] = _compare(registry)
    found |= _withdraw(registry)
    found["store-check"] = _shorten(_run(registry, "store-check", "file:checked", "--short"))
    found["store-copy"] = _copy(registry)
    found |= make_bundle_examples(lambda document: _normalise(document, registry))
    found |= make_check_examples(lambda document: _normalise(document, registry))
    found |= make_sumdb_examples(registry, lambda document: _normalise(document, registry))
    found |= make_logmirror_examples(lambda document: _normalise(document, registry))
    found |= make_witness_examples(lambda document: _normalise(document, registry))
    return {name: json.dumps(document, indent=2, ensure_ascii=False) for name, document in found.items()}


def _withdraw(registry: ThreadedRegistry) -> dict[str, Any]:
    """Let a package be taken away for security, let it in again, and ask why it is there."""
    registry.sim.publish("gone", "1.0.0", data=b"the tarball of gone")
    mine = ("--config", "withdrawn.toml")
    _run(registry, "init", "gone", "--output", "withdrawn.toml", "--storage", "file:withdrawn")
    _run(registry, "sync", "--once", *mine)
    registry.sim.replace_by_holder("gone")
    _run(registry, "sync", "--once", *mine)
    release = _run(registry, "release", "gone@1.0.0", "--reason", "taken away by mistake", *mine)
    why = _run(registry, "status", "--why", "gone@1.0.0", *mine)
    why["held"]["size"] = _SIZE
    return {"why": why, "release": release}


def _compare(registry: ThreadedRegistry) -> Any:
    """Compare the mirror with one whose registry showed it other bytes."""
    registry.sim.publish("left", "1.0.0", files={"index.js": b"something else"})
    _run(registry, "sync", "--once", "--storage", "file:other", "left@1.0.0")
    with serve_mirror("mirror") as a, serve_mirror("other") as b:
        document = json.dumps(_run(registry, "compare", a, b))
    compared = json.loads(document.replace(a, "https://a.example").replace(b, "https://b.example"))
    compared["differences"][0]["b"] = "sha512-9876543210…"
    return compared


def _copy(registry: ThreadedRegistry) -> Any:
    """Ask what a copy would do to a place that has another object under one key, and one of its own."""
    for name in ("first", "second"):
        _run(registry, "store-check", f"file:{name}", "--short")  # makes the directory
    for key, body in (
        ("first/about/mirror.json", b"{}"),
        ("first/state/witness/identity.json", b"{}"),
        ("second/about/mirror.json", b"another"),
        ("second/state/run/last.json", b"{}"),
    ):
        Path(key).parent.mkdir(parents=True)
        Path(key).write_bytes(body)
    done = CliRunner().invoke(main, ("store-copy", "file:first", "file:second", "--dry-run", "--json"))
    return json.loads(done.stdout)


def _run(registry: ThreadedRegistry, *arguments: str) -> Any:
    done = CliRunner().invoke(main, (*arguments, "--json"), env={"MIRRORWITNESS_LIMITS_PACKAGES": "1"})
    return _normalise(json.loads(done.stdout), registry)


def _normalise(value: Any, registry: ThreadedRegistry) -> Any:
    if isinstance(value, dict):
        value = {key.replace(registry.url, "https://registry.example"): inner for key, inner in value.items()}
        return {key: _SIZE if _is_size(key) else _normalise(inner, registry) for key, inner in value.items()}
    if isinstance(value, list):
        return [_normalise(inner, registry) for inner in value]
    if not isinstance(value, str):
        return value
    text = value.replace(registry.url, "https://registry.example").replace(str(Path.cwd()), "/srv")
    text = _MONTH.sub("2026-07", text)
    text = _TIME.sub("2026-07-01T12:00:00Z", _SOFTWARE.sub("mirrorwitness/1.0.0", text))
    text = _STONE.sub(r"\g<1>0123456789abcdef", text)
    text = _DIGEST.sub("0123456789abcdef" * 4, _SRI.sub("sha512-0123456789…", text))
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _is_size(key: str) -> bool:
    return key in _SIZES or key.startswith(("bytes_from_", "https://"))


def _shorten(document: Any) -> Any:
    """Keep the first finding of many that look alike."""
    return {**document, "findings": document["findings"][:1]}
