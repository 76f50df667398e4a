"""A folder with the key of a witness and its storage, in which commands are run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.tlog.keys import format_signer_key
from tests.unit.witness.world import LOG, LOG_KEY, OURS, START, cosign

if TYPE_CHECKING:
    from mirrorwitness.tlog.keys import SignerKey

VKEY = str(LOG_KEY.verifier)


@dataclass(slots=True)
class Shell:
    """Runs commands in a folder with the key of a witness and its storage."""

    folder: Path

    def run(self, *arguments: str, expect: int = 0) -> str:
        """Run a command, hold it to its exit code, and return its standard output."""
        done = CliRunner().invoke(main, ("witness", *arguments))
        assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
        return done.stdout

    def json(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """The same with ``--json``: standard output is one document, which has the exit code too."""
        document: dict[str, Any] = json.loads(self.run(*arguments, "--json", expect=expect))
        assert document["exit_code"] == expect
        assert document["schema"].startswith("mirrorwitness-witness-")
        return document

    def refuse(self, *arguments: str, expect: int) -> str:
        """Run a command that fails, and return what it tells people: one line on standard error."""
        done = CliRunner().invoke(main, ("witness", *arguments))
        assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
        assert done.stdout == ""
        return done.stderr

    def write(self, name: str, body: bytes | str) -> str:
        """Write a file."""
        path = self.folder / name
        path.write_bytes(body if isinstance(body, bytes) else body.encode())
        return str(path)

    def key(self, key: SignerKey = OURS) -> str:
        """Write the file of a key."""
        path = Path(self.write(f"{key.verifier.key_id.hex()}.key", format_signer_key(key)))
        path.chmod(0o600)
        return str(path)

    def stored(self, key: str) -> Path:
        """Return the path of an object."""
        return self.folder / "state" / key

    @property
    def options(self) -> tuple[str, ...]:
        """Whose witness it is."""
        return ("--storage", f"file:{self.folder / 'state'}", "--key", self.key(), "--log", VKEY)


def cosigned(size: int = 10, timestamp: int = START) -> bytes:
    """Return a checkpoint that the witness cosigned."""
    return LOG.note(size, more=[cosign(OURS, LOG.tree(size).text, timestamp)])
