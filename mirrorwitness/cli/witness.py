"""``mirrorwitness witness``: cosign the checkpoints of transparency logs, and check what others cosigned."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import click

from mirrorwitness.cli.boundary import fail, guard, run_command, stop_with
from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.cli.options import json_option, log_level_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, hint, print_facts, print_json, print_table, warn
from mirrorwitness.cli.witness_options import running_options, witness_options
from mirrorwitness.errors import ConfigurationError, ExitCode
from mirrorwitness.run.files import read_file
from mirrorwitness.run.inspecting import explain_evidence, explain_note, verify_checkpoint
from mirrorwitness.run.signers import PASSPHRASE_VARIABLE, format_pem
from mirrorwitness.run.witnessing import WitnessWishes, adopt_checkpoint, retire_witness, serve_witness
from mirrorwitness.telemetry import configure_logs
from mirrorwitness.tlog.keys import SEED_BYTES, KeyType, format_signer_key, make_signer_key

__all__ = ["witness"]

ALGORITHMS = {"ed25519": KeyType.COSIGNATURE, "ml-dsa-44": KeyType.ML_DSA_44}
_FILE = click.Path(path_type=Path)


@click.group()
def witness() -> None:
    """Cosign the checkpoints of transparency logs, and never contradict yourself.

    A first witness of one log:

    \b
      mirrorwitness witness keygen --name witness.example.org/w1 --out w1.key
      mirrorwitness witness serve --storage file:state --listen 127.0.0.1:7380 --key w1.key --log VKEY

    It says that a log only ever grew, never that its entries are good.
    """


@witness.command(epilog=EXIT_CODES_HELP)
@click.option("--name", required=True, metavar="NAME", help="Who cosigns: a host and a path, without a scheme.")
@click.option(
    "--algorithm",
    type=click.Choice(list(ALGORITHMS)),
    default="ed25519",
    show_default=True,
    help="ml-dsa-44 withstands quantum computers; run both beside each other with two keys.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the private key goes; readable by its owner only, never replaced.",
)
@click.option("--pem", "is_pem", is_flag=True, help="Write a PEM file (PKCS#8), which other tools read too.")
@click.option("--encrypt", "is_encrypted", is_flag=True, help="Write an encrypted PEM file.")
def keygen(*, name: str, algorithm: str, out: Path, is_pem: bool, is_encrypted: bool) -> None:
    """Make a key that cosigns, and print its public half.

    The passphrase of --encrypt is that of MIRRORWITNESS_KEY_PASSPHRASE, or asked for.

    \b
    Example:
      mirrorwitness witness keygen --name witness.example.org/w1 --out w1.key
      mirrorwitness witness keygen --name witness.example.org/w1 --algorithm ml-dsa-44 --encrypt --out w2.pem
    """
    try:
        key = make_signer_key(name, secrets.token_bytes(SEED_BYTES), ALGORITHMS[algorithm])
        passphrase = _choose_passphrase() if is_encrypted else None
        write_key(out, format_pem(key, passphrase).rstrip() if is_pem or is_encrypted else format_signer_key(key))
    except ConfigurationError as error:
        fail(error, "", is_json=False)
    click.echo(str(key.verifier))
    hint(f"wrote {out}; keep one copy of it, offline, and publish the line above")


@witness.command(epilog=EXIT_CODES_HELP)
@click.option(
    "--listen", default="127.0.0.1:7380", show_default=True, metavar="HOST:PORT", help="Port 0: any free one."
)
@click.option(
    "--refuse-extensions", "refuses_extensions", is_flag=True, help="Refuse checkpoints with extension lines."
)
@click.option("--sign-subtree", "signs_subtrees", is_flag=True, help="Offer sign-subtree, for ML-DSA-44 keys.")
@click.option("--rate", type=float, default=0.0, metavar="N", help="Requests of one log in a second; 0: no limit.")
@log_level_option
@running_options
@witness_options
def serve(*, wishes: WitnessWishes, listen: str, log_level: str | None) -> None:
    """Serve a witness to logs (add-checkpoint) and to monitors.

    Prints `listening on http://HOST:PORT` once it accepts requests. Refuses to start where its state was lost or is
    older than what it published; `witness adopt` and `witness retire` are the ways out. Use --anchor with a storage
    that is never restored together with the first one. SIGTERM stops it gracefully.

    \b
    Example:
      mirrorwitness witness serve --storage s3://witness-state --anchor file:/var/lib/anchor --key w1.key --log VKEY
    """
    configure_logs(level=log_level or "info", is_terminal=sys.stderr.isatty())
    run_command(
        lambda: serve_witness(wishes, listen=listen, ready=lambda at: click.echo(f"listening on {at}"), told=warn),
        schema="",
        is_json=False,
    )
    stop_with(ExitCode.COMPLETE)


@witness.command(epilog=EXIT_CODES_HELP)
@click.option("--checkpoint", required=True, type=_FILE, metavar="FILE", help="The newest one that it cosigned.")
@json_option
@witness_options
def adopt(*, wishes: WitnessWishes, checkpoint: Path, is_json: bool) -> None:
    """Go on from a checkpoint that this witness cosigned, after its state was lost or restored from an older copy.

    Only you can know that it is the newest: ask the log, other monitors and your own archive. A witness that goes on
    from an older one may sign a fork; where in doubt, retire the key instead. Needs the log's signature and this
    witness's.

    \b
    Example:
      mirrorwitness witness adopt --storage file:state --key w1.key --log VKEY --checkpoint newest.txt
    """
    tree = run_command(
        lambda: adopt_checkpoint(wishes, body=read_file(checkpoint)),
        schema="mirrorwitness-witness-adopt-1",
        is_json=is_json,
    )
    if is_json:
        print_json("mirrorwitness-witness-adopt-1", {"origin": tree.origin, "size": tree.size, "exit_code": 0})
    else:
        click.echo(f"goes on from {tree}")


@witness.command(epilog=EXIT_CODES_HELP)
@json_option
@witness_options
def retire(*, wishes: WitnessWishes, is_json: bool) -> None:
    """Note that the keys given with --key never sign from this storage again. There is no way back.

    \b
    Example:
      mirrorwitness witness retire --storage file:state --key w1.key
    """
    retired = run_command(lambda: retire_witness(wishes), schema="mirrorwitness-witness-retire-1", is_json=is_json)
    if is_json:
        print_json("mirrorwitness-witness-retire-1", {"retired": list(retired), "exit_code": 0})
    else:
        for vkey in retired:
            click.echo(f"retired {vkey}")


@witness.command(epilog=EXIT_CODES_HELP)
@click.argument("checkpoint", type=_FILE, metavar="CHECKPOINT")
@click.option("--policy", required=True, type=_FILE, metavar="FILE", help="Logs, witnesses and quorum (tlog-policy).")
@click.option("--origin", metavar="ORIGIN", help="For logs whose key has another name than their checkpoints.")
@json_option
def verify(*, checkpoint: Path, policy: Path, origin: str | None, is_json: bool) -> None:
    """Check a checkpoint against a policy: signed by one of its logs, cosigned by its quorum.

    \b
    Example:
      mirrorwitness witness verify checkpoint.txt --policy policy.txt
    """
    schema = "mirrorwitness-witness-verify-1"
    verdict = guard(
        lambda: verify_checkpoint(read_file(checkpoint), read_file(policy), origin=origin),
        schema=schema,
        is_json=is_json,
    )
    if is_json:
        print_json(schema, {**verdict.document(), "exit_code": 0})
        return
    print_facts(verdict.facts())
    for line in verdict.lines:
        click.echo(line)


@witness.command(epilog=EXIT_CODES_HELP)
@click.argument("note", type=_FILE, metavar="NOTE")
@click.option("--key", "keys", multiple=True, metavar="VKEY", help="Check the lines of this key; repeatable.")
@json_option
def inspect(*, note: Path, keys: tuple[str, ...], is_json: bool) -> None:
    """Show what a signed note, a checkpoint or a tlog-proof says, and who claims to have signed it.

    \b
    Example:
      mirrorwitness witness inspect checkpoint.txt --key VKEY
    """
    schema = "mirrorwitness-witness-inspect-1"
    found = guard(lambda: explain_note(read_file(note), keys), schema=schema, is_json=is_json)
    if is_json:
        print_json(schema, {**found.document(), "exit_code": 0})
        return
    print_facts(found.facts())
    print_table(["name", "key ID", "what it is", "time", "verified"], found.rows())


@witness.command(epilog=EXIT_CODES_HELP)
@click.argument("file", type=_FILE, metavar="FILE")
@json_option
def evidence(*, file: Path, is_json: bool) -> None:
    """Check a proof that a log forked: it signed two trees that contradict each other. Needs nothing but the file.

    Compare the log's keys that it prints with those that the log publishes. Exit code 4: it is proven; 2: it is not.

    \b
    Example:
      mirrorwitness witness evidence evidence/witness/…/….json
    """
    schema = "mirrorwitness-witness-evidence-1"
    found = guard(lambda: explain_evidence(read_file(file)), schema=schema, is_json=is_json)
    if is_json:
        print_json(schema, {**found.document(), "exit_code": int(ExitCode.DIVERGENCE)})
    else:
        print_facts(found.facts())
    stop_with(ExitCode.DIVERGENCE)


def _choose_passphrase() -> str:
    known = os.environ.get(PASSPHRASE_VARIABLE)
    if known is not None:
        return known
    try:
        chosen: str = click.prompt("Passphrase of the new key", hide_input=True, confirmation_prompt=True, err=True)
    except click.Abort:
        stop_with(ExitCode.INTERRUPTED)
    return chosen
