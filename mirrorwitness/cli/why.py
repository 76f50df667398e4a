"""``mirrorwitness status --why``: one package or version explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.output import print_facts, print_json
from mirrorwitness.run.why import explain_subject

if TYPE_CHECKING:
    from mirrorwitness.cli.options import Options
    from mirrorwitness.mirror.explain import Explanation, Facts

__all__ = ["show_why"]

SCHEMA = "mirrorwitness-why-1"


def show_why(options: Options, subject: str, *, is_json: bool) -> NoReturn:
    """Explain a package or version, and end the command."""
    explanation, facts = run_command(
        lambda: explain_subject(options.load(needs_registry=False), subject), schema=SCHEMA, is_json=is_json
    )
    if is_json:
        print_json(SCHEMA, {**_document(explanation, facts), "exit_code": int(explanation.code)})
    else:
        print_facts([(explanation.subject, explanation.state)])
        for sentence in explanation.sentences:
            click.echo(f"- {sentence}")
        for sentence in explanation.advice:
            click.echo(f"\n{sentence}")
    stop_with(explanation.code)


def _document(explanation: Explanation, facts: Facts) -> dict[str, object]:
    note, record = facts.note, facts.record
    item = None if record is None or facts.version is None else record.versions.get(facts.version)
    return {
        "subject": explanation.subject,
        "state": str(explanation.state),
        "rules": list(explanation.rules),
        "sentences": list(explanation.sentences),
        "advice": list(explanation.advice),
        "revision": None if record is None else record.rev,
        "checked": None if record is None else record.checked,
        "held": None
        if item is None
        else {
            "file": item.file,
            "size": item.size,
            "sri": item.sri,
            "signature": item.signature,
            "served": item.served,
            "withdrawn": item.withdrawn,
            "released": item.released,
            "place": str(item.place),
        },
        "unfinished": None if note is None else {"reason": note.reason, "attempts": note.attempts, "last": note.last},
        "tombstones": [
            {
                "key": key,
                "version": stone.version,
                "event": str(stone.event),
                "seen": stone.seen,
                "policy": stone.policy,
                "upstream": {name: msgspec.json.decode(raw) for name, raw in stone.upstream.items()},
            }
            for key, stone in facts.tombstones
        ],
        "releases": [msgspec.to_builtins(release) for release in facts.releases],
        "evidence": list(facts.evidence),
    }
