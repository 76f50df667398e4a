"""``mirrorwitness witness conformance``: does a witness do what the specification says? Anybody's witness."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import click

from mirrorwitness.cli.boundary import guard, run_command, stop_with
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, hint, print_json, print_table
from mirrorwitness.errors import ConfigurationError, ExitCode
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.tlog.keys import SEED_BYTES, parse_verifier_key
from mirrorwitness.witness.conformance import (
    ConformanceOptions,
    Result,
    conforms,
    lab_vkeys,
    run_conformance,
    summarize,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.witness.conformance import Outcome

__all__ = ["conformance"]

SCHEMA: Final = "mirrorwitness-witness-conformance-1"
LOGS_SCHEMA: Final = "mirrorwitness-witness-conformance-logs-1"
"""What ``--print-logs`` prints: another document."""


@click.command(epilog=EXIT_CODES_HELP)
@click.argument("url", metavar="URL", required=False)
@click.option("--vkey", "vkeys", multiple=True, metavar="VKEY", help="A key of the witness; repeatable.")
@click.option("--seed", metavar="HEX", help="32 bytes that the suite's logs are made of; default: random ones.")
@click.option("--monitoring", metavar="URL", help="The monitoring prefix, where it is another one.")
@click.option("--only", "only", multiple=True, metavar="CASE", help="Run this case alone; repeatable.")
@click.option("--print-logs", "prints_logs", is_flag=True, help="Print the vkeys of the suite's logs, and stop.")
@json_option
def conformance(
    *,
    url: str | None,
    vkeys: tuple[str, ...],
    seed: str | None,
    monitoring: str | None,
    only: tuple[str, ...],
    prints_logs: bool,
    is_json: bool,
) -> None:
    """Try a witness against C2SP tlog-witness, case by case, from outside.

    First let the witness know the suite's logs: --print-logs gives their vkeys for a seed. The suite's logs fork on
    purpose, so a witness that keeps evidence will have some. Exit code 4: a MUST was not kept; 5: no answer at all.

    \b
    Example:
      mirrorwitness witness conformance --print-logs --seed 00…00
      mirrorwitness witness conformance http://127.0.0.1:7380 --vkey VKEY --seed 00…00
    """
    made = guard(lambda: _read_seed(seed), schema=SCHEMA, is_json=is_json)
    if prints_logs:
        _print_logs(made, is_json=is_json)
        return
    options = guard(
        lambda: _make_options(url, vkeys, made, monitoring=monitoring, only=only), schema=SCHEMA, is_json=is_json
    )

    def told(outcome: Outcome) -> None:
        if not is_json and outcome.result in {Result.FAILED, Result.ERROR}:
            click.echo(
                f"{outcome.result} {outcome.case.id}: expected {outcome.expected}; found {outcome.found}", err=True
            )

    outcomes = run_command(lambda: run_conformance(options, told=told), schema=SCHEMA, is_json=is_json)
    code = _exit_code(outcomes)
    if is_json:
        content = {"cases": to_json(outcomes), "summary": summarize(outcomes), "exit_code": int(code)}
        print_json(SCHEMA, content)
    else:
        _print_report(outcomes)
    stop_with(code)


def _read_seed(text: str | None) -> bytes:
    if text is None:
        return secrets.token_bytes(SEED_BYTES)
    try:
        seed = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigurationError("--seed: expected 64 hex digits") from error
    if len(seed) != SEED_BYTES:
        raise ConfigurationError(f"--seed: {len(seed)} bytes, expected {SEED_BYTES}")
    return seed


def _make_options(
    url: str | None, vkeys: tuple[str, ...], seed: bytes, *, monitoring: str | None, only: tuple[str, ...]
) -> ConformanceOptions:
    if url is None or not vkeys:
        raise ConfigurationError("expected the URL of a witness, and its keys (--vkey)")
    keys = [parse_verifier_key(text, *COSIGNER_KEYS) for text in vkeys]
    return ConformanceOptions(url=url, witness_keys=keys, seed=seed, monitoring_url=monitoring, only=only)


def _print_logs(seed: bytes, *, is_json: bool) -> None:
    vkeys = lab_vkeys(seed)
    if is_json:
        print_json(LOGS_SCHEMA, {"seed": seed.hex(), "logs": list(vkeys), "exit_code": 0})
        return
    for vkey in vkeys:
        click.echo(vkey)
    hint(f"seed {seed.hex()}: give it to the run with --seed")


def _print_report(outcomes: Iterable[Outcome]) -> None:
    outcomes = list(outcomes)
    print_table(
        ["case", "level", "result", "what it is"],
        [(item.case.id, item.case.level, item.result, item.case.title) for item in outcomes],
    )
    click.echo("")
    results = list(Result)
    print_table(
        ["level", *results],
        [(level, *(str(counts[result]) for result in results)) for level, counts in summarize(outcomes).items()],
        numbers=frozenset(results),
    )


def _exit_code(outcomes: Iterable[Outcome]) -> ExitCode:
    outcomes = list(outcomes)
    if conforms(outcomes):
        return ExitCode.COMPLETE
    is_mute = all(item.result is Result.ERROR for item in outcomes)
    return ExitCode.UPSTREAM if is_mute else ExitCode.DIVERGENCE
