"""The JSON documents of a witness, as one story: it polls two logs, one forks, its state is lost, its key retired.

Keys, logs and trees follow from fixed seeds, so that only times and addresses differ from run to run.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.run.serve import serve as serve_app
from mirrorwitness.run.witnessing import WitnessWishes, open_witness
from mirrorwitness.server.witness import WitnessApp
from mirrorwitness.storage.local_cells import cell_path
from mirrorwitness.tlog.keys import KeyType, format_signer_key, make_signer_key
from mirrorwitness.witness.conformance import lab_vkeys
from mirrorwitness.witness.lab import LabLog
from mirrorwitness.witness.records import public_key, record_key
from tests.fakes.serving import serve
from tests.fakes.thread import run_in_thread
from tests.unit.witness.log_server import LogServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

__all__ = ["make_witness_examples"]

OURS: Final = make_signer_key("witness.example.org/w1", bytes([1] * 32), KeyType.COSIGNATURE)
SEED: Final = bytes([2] * 32).hex()
CASES: Final = ("same-size-other-root", "subtree")
"""One whose answer is the same each time, and one that cannot be asked of a witness without an ML-DSA-44 key."""

_FORKED_AT: Final = 9


def make_witness_examples(normalise: Callable[[Any], Any]) -> dict[str, Any]:
    """Run every command of a witness that has ``--json`` in the working directory.

    Args:
        normalise: replaces in a document what differs from run to run.

    Returns:
        Name → the document it printed.
    """
    write_key(Path("w1.key"), format_signer_key(OURS))
    grows, silent = _make_log("log.example.org/2026", 3), _make_log("log.example.org/2025", 5)
    # A list that names another key than the flag is told to the operator, and changes nothing.
    listed = _make_log("log.example.org/2024", 7).keys[0].verifier
    Path("logs.txt").write_text(f"logs/v0\nvkey {grows.keys[1].verifier}\nvkey {listed}\n", encoding="utf-8")
    found: dict[str, Any] = {}
    with _serve(LogServer(grows, 1000)) as server, _serve(LogServer(silent)) as other:
        other.gone.add(other.head_path)
        options = ("--storage", "file:state", "--key", "w1.key", "--log", server.flag)
        more = ("--log", other.flag, "--log-list", "logs.txt")
        polled = json.dumps(_run("poll", "--once", *options, *more))
        found["witness-poll"] = json.loads(polled.replace(other.base, "https://log.example.org/2025"))
        _run("logs", "--storage", "file:state", "--disable", listed.name)
        found["witness-logs"] = _run("logs", "--storage", "file:state")
        found |= _check(grows)
        found["witness-prove"] = _prove(server)
        server.grow(1500, grows.fork(_FORKED_AT))
        _run("poll", "--once", *options)
    (kept,) = Path("state/evidence/witness").rglob("*.json")
    found["witness-evidence"] = _run("evidence", str(kept))
    Path(cell_path(f"state/{record_key(grows.origin)}")).unlink()
    found["witness-adopt"] = _run("adopt", *options, "--checkpoint", "checkpoint.txt")
    found["witness-retire"] = _run("retire", *options)
    found |= _try_witness()
    return {name: normalise(document) for name, document in found.items()}


def _check(log: LabLog) -> dict[str, Any]:
    """Look at what the witness publishes as one who relies on it."""
    Path("checkpoint.txt").write_bytes(Path("state", public_key(log.origin)).read_bytes())
    Path("policy.txt").write_text(
        f"log {log.keys[0].verifier}\nwitness w1 {OURS.verifier}\nquorum w1\n", encoding="utf-8"
    )
    keys = ("--key", str(log.keys[0].verifier), "--key", str(OURS.verifier))
    return {
        "witness-inspect": _run("inspect", "checkpoint.txt", *keys),
        "witness-verify": _run("verify", "checkpoint.txt", "--policy", "policy.txt"),
    }


def _prove(server: LogServer) -> Any:
    """Prove an entry of a log that serves the checkpoint with its cosignature."""
    server.bodies[server.head_path] = Path("checkpoint.txt").read_bytes()
    proven = _run("prove", "--log", server.flag, "--index", "700", "--policy", "policy.txt", "--out", "700.tlog-proof")
    server.heal()
    proven["tiles"].sort()  # they arrive in any order
    return proven


def _try_witness() -> dict[str, Any]:
    """Try a witness that knows the suite's logs."""
    logs = _run("conformance", "--print-logs", "--seed", SEED)
    only = [word for case in CASES for word in ("--only", case)]
    with _serve_witness() as url:
        tried = _run("conformance", url, "--vkey", str(OURS.verifier), "--seed", SEED, *only)
    return {"witness-conformance": tried, "witness-conformance-logs": {**logs, "logs": logs["logs"][:2]}}


def _make_log(origin: str, number: int) -> LabLog:
    """Make a log with two keys, of which the first signs."""
    return LabLog(origin, [make_signer_key(origin, bytes([number + key] * 32)) for key in range(2)])


@contextmanager
def _serve(log: LogServer) -> Iterator[LogServer]:
    with run_in_thread(serve(log)):
        yield log


@contextmanager
def _serve_witness() -> Iterator[str]:
    """Serve a witness of the suite's logs as `witness serve` does, from a thread; gives its address."""
    wishes = WitnessWishes(storage="file:tried", keys=("w1.key",), logs=lab_vkeys(bytes.fromhex(SEED)))

    @asynccontextmanager
    async def server() -> AsyncGenerator[str, None]:
        shutdown = trio.Event()
        async with open_witness(wishes) as running, trio.open_nursery() as nursery:
            app = WitnessApp(witness=running.witness, storage=running.storage, signs_subtrees=False)

            async def start(task_status: Any) -> None:
                await serve_app(app, host="127.0.0.1", port=0, shutdown=shutdown, task_status=task_status)

            _, port = await nursery.start(start)
            yield f"http://127.0.0.1:{port}"
            shutdown.set()

    with run_in_thread(server()) as url:
        yield url


def _run(*arguments: str) -> Any:
    return json.loads(CliRunner().invoke(main, ("witness", *arguments, "--json")).stdout)
