"""SARIF: what `check` found as code-scanning tools read it. Pure.

Rules:

- One rule for each verdict; one result for each entry that is not plainly verified. An error is a divergence, a warning
  what could not be verified, a note the rest.
- What ends a check is a finding too, with a rule of its own, and the run is said to have failed: a file without results
  would say that all is well. Nothing is verified then, so it stands at each file that was to be checked.
- A result stands at the file that it comes from, in the entry's first line where that is known, else in the first line:
  viewers show nothing that has no place. A name on the command line has no file, and so no place.
- A fingerprint is made of the entry and the verdict, so that the same finding is the same one in the next run.

SPEC: SARIF 2.1.0 (OASIS).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import orjson

from mirrorwitness.run.trouble import Trouble, trouble_of
from mirrorwitness.sumdb.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.errors import ExitCode, MirrorWitnessError
    from mirrorwitness.run.check_report import Checked, CheckReport

__all__ = ["format_sarif", "format_trouble"]

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"

_TITLES: Final[dict[Verdict | Trouble, str]] = {
    Verdict.VERIFIED: "The log has it, with the same integrity",
    Verdict.WITHDRAWN: "The registry does not have this version any more",
    Verdict.SECURITY_HOLD: "The registry replaced this package by a placeholder, as it does with malware",
    Verdict.NOT_FROM_REGISTRY: "Not from a registry: no log can have it",
    Verdict.NO_INTEGRITY: "Nothing says which bytes are meant",
    Verdict.WEAK_INTEGRITY: "Only SHA-1, which can be forged, says which bytes are meant",
    Verdict.NOT_LOGGED: "The log has no record of this version",
    Verdict.UNREACHABLE: "The log could not say anything about this version",
    Verdict.OTHER_INTEGRITY: "The log has other bytes under this name and version",
    Verdict.OTHER_REGISTRY: "The log has this version from another registry",
    Verdict.CONFLICT: "The registry showed two integrities for this version",
    Verdict.OTHER_NAME: "The file holds another version than its name says",
    Verdict.OTHER_ADDRESS: "The lockfile takes this package from the address of another one",
    Verdict.UNPROVEN: "The answer for this version is not in the log: somebody made it up",
    Trouble.FORK: "The log signed two histories: nothing that it says can be believed",
    Trouble.BAD_CHECKPOINT: "The log's checkpoint is not signed, or not cosigned as the policy says",
    Trouble.BAD_TREE: "What the log serves is not what its checkpoint promises",
    Trouble.UNREACHABLE: "The log cannot be read: nothing was checked",
    Trouble.OTHER: "The check could not be made",
}
_RULES: Final = tuple(_TITLES)


def format_sarif(report: CheckReport, *, version: str) -> bytes:
    """Write a report as SARIF.

    Args:
        report: what was found.
        version: of this program.
    """
    invocation = {"executionSuccessful": True, "exitCode": int(report.exit_code())}
    return _format([_result(item) for item in report.checked if not item.is_fine], invocation, version)


def format_trouble(error: MirrorWitnessError, code: ExitCode, arguments: Sequence[str], *, version: str) -> bytes:
    """Write what ended a check as SARIF.

    Args:
        error: what ended it.
        code: what the command exits with.
        arguments: what was to be checked; what is a file has the finding.
        version: of this program.
    """
    trouble = trouble_of(error)
    message = {"text": _plain(str(error))}
    is_about_log = trouble is not Trouble.OTHER
    files = [argument for argument in arguments if is_about_log and Path(argument).is_file()]
    result: dict[str, object] = {
        "ruleId": str(trouble),
        "ruleIndex": _RULES.index(trouble),
        "level": _level(trouble),
        "message": message,
        "partialFingerprints": {"mirrorwitness/v1": hashlib.sha256(str(trouble).encode()).hexdigest()},
    }
    if files:
        result["locations"] = [{"physicalLocation": _place(_uri(file), 1)} for file in files]
    invocation = {
        "executionSuccessful": False,
        "exitCode": int(code),
        "toolExecutionNotifications": [{"level": "error", "message": message}],
    }
    return _format([result], invocation, version)


def _format(results: Sequence[object], invocation: object, version: str) -> bytes:
    rules = [
        {"id": str(rule), "shortDescription": {"text": title}, "defaultConfiguration": {"level": _level(rule)}}
        for rule, title in _TITLES.items()
    ]
    document = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "mirrorwitness check", "version": version, "rules": rules}},
                "invocations": [invocation],
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _result(item: Checked) -> dict[str, object]:
    subject, verdict = item.subject, item.verdict
    reason = item.judgement.reason
    found: dict[str, object] = {
        "ruleId": str(verdict),
        "ruleIndex": _RULES.index(verdict),
        "level": _level(verdict),
        "message": {"text": f"{subject.title}: {_TITLES[verdict]}" + (f" ({reason})" if reason else "")},
        "partialFingerprints": {"mirrorwitness/v1": _fingerprint(item)},
    }
    if subject.is_file:
        found["locations"] = [
            {
                "physicalLocation": _place(_uri(subject.source), min(subject.lines, default=1)),
                "logicalLocations": [{"fullyQualifiedName": subject.title, "kind": "package"}],
            }
        ]
    return found


def _place(uri: str, line: int) -> dict[str, object]:
    return {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}


def _level(rule: Verdict | Trouble) -> str:
    if isinstance(rule, Trouble) or rule.is_divergence:
        return "error"
    return "warning" if rule.is_unfinished or rule is Verdict.SECURITY_HOLD else "note"


def _fingerprint(item: Checked) -> str:
    text = f"{_uri(item.subject.source)}\n{item.subject.title}\n{item.verdict}"
    return hashlib.sha256(text.encode()).hexdigest()


def _uri(source: str) -> str:
    """Return a file as a URI; one that is named from where we are, as a reference from there."""
    path = Path(source)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix(), errors="surrogateescape")


def _plain(text: str) -> str:
    """Return a text that can be written anywhere: what is no UTF-8 stands there as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
