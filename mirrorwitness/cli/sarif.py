"""SARIF: what `check` found as code-scanning tools read it. Pure.

Rules:

- One rule for each verdict; one result for each entry that is not plainly verified. An error is a divergence, a warning
  what could not be verified, a note the rest.
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

from mirrorwitness.sumdb.verdict import Verdict

if TYPE_CHECKING:
    from mirrorwitness.run.check_report import Checked, CheckReport

__all__ = ["format_sarif"]

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"

_TITLES: Final = {
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
    Verdict.UNPROVEN: "The answer for this version is not in the log: somebody made it up",
}


def format_sarif(report: CheckReport, *, version: str) -> bytes:
    """Write a report as SARIF.

    Args:
        report: what was found.
        version: of this program.
    """
    rules = [
        {
            "id": str(verdict),
            "shortDescription": {"text": title},
            "defaultConfiguration": {"level": _level(verdict)},
        }
        for verdict, title in _TITLES.items()
    ]
    document = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "mirrorwitness check", "version": version, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(item) for item in report.checked if not item.is_fine],
            }
        ],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _result(item: Checked) -> dict[str, object]:
    subject, verdict = item.subject, item.verdict
    reason = item.judgement.reason
    found: dict[str, object] = {
        "ruleId": str(verdict),
        "ruleIndex": list(_TITLES).index(verdict),
        "level": _level(verdict),
        "message": {"text": f"{subject.title}: {_TITLES[verdict]}" + (f" ({reason})" if reason else "")},
        "partialFingerprints": {"mirrorwitness/v1": _fingerprint(item)},
    }
    if subject.is_file:
        line = min(subject.lines, default=1)
        found["locations"] = [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(subject.source)},
                    "region": {"startLine": line},
                },
                "logicalLocations": [{"fullyQualifiedName": subject.title, "kind": "package"}],
            }
        ]
    return found


def _level(verdict: Verdict) -> str:
    if verdict.is_divergence:
        return "error"
    return "warning" if verdict.is_unfinished or verdict is Verdict.SECURITY_HOLD else "note"


def _fingerprint(item: Checked) -> str:
    text = f"{_uri(item.subject.source)}\n{item.subject.title}\n{item.verdict}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _uri(source: str) -> str:
    path = Path(source)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
