"""`store-check` against real servers that each lie in another way: what research/E 1.3 says is found, and no more.

The outcomes are what the servers did here; where they differ from research/E 1.3, the servers are believed, and a
comment says so. Retries of our client make the weak servers slow: a probe that is answered with 500 takes ten seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import StorageError
from mirrorwitness.storage.probe import check_storage
from mirrorwitness.storage.probe_verdict import Capability as C  # noqa: N817 - a table of nothing else
from mirrorwitness.storage.probe_verdict import Outcome as O  # noqa: N817 - a table of nothing else
from mirrorwitness.storage.probe_verdict import Role, Verdict
from tests.real.conftest import BUCKET, make_bucket
from tests.real.servers import NotInstalledError, s3rver

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.storage.probe import StoreReport
    from tests.real.servers import S3Server

IGNORES_CONDITIONS = {C.PUT_IF_ABSENT: O.IGNORED, C.PUT_IF_MATCH: O.IGNORED, C.DELETE_IF_MATCH: O.IGNORED}
NO_CHECKSUMS = {C.CHECKSUM_CHECKED: O.IGNORED, C.CHECKSUM_ECHOED: O.MISSING}
FORGETFUL = {C.CONTENT_TYPE: O.MISSING, C.METADATA: O.MISSING}

EXPECTED = {
    # research/E has its listings in byte order; they follow a walk through directories.
    "seaweedfs": {C.LIST_ORDER: O.BROKEN, C.PAYLOAD_HASH_CHECKED: O.IGNORED},
    "rgw": {**NO_CHECKSUMS, C.DELETE_IF_MATCH: O.IGNORED},
    "rclone": {**IGNORES_CONDITIONS, **NO_CHECKSUMS, C.PAYLOAD_HASH_CHECKED: O.IGNORED, C.KEY_NESTED: O.BROKEN},
    # With start-after it skips what sorts between a name and its directory; with continuation tokens (research/E) not.
    "nanio": {
        **IGNORES_CONDITIONS,
        **NO_CHECKSUMS,
        C.PAYLOAD_HASH_CHECKED: O.IGNORED,
        C.LIST_PAGING: O.BROKEN,
        C.KEY_LONG: O.BROKEN,
        C.KEY_PUNCTUATION: O.BROKEN,
        C.KEY_NESTED: O.BROKEN,
    },
    "juicefs": {**IGNORES_CONDITIONS, **NO_CHECKSUMS, **FORGETFUL, C.KEY_NESTED: O.BROKEN},
    "localbucket": {
        **NO_CHECKSUMS,
        **FORGETFUL,
        C.PUT_IF_MATCH: O.IGNORED,
        C.DELETE_IF_MATCH: O.IGNORED,
        C.PAYLOAD_HASH_CHECKED: O.IGNORED,
        C.KEY_NESTED: O.BROKEN,
        C.ANONYMOUS_READ: O.BROKEN,
        C.ANONYMOUS_WRITE: O.BROKEN,
        C.SECRET_CHECKED: O.IGNORED,
    },
    # It echoes the right checksum when it is given the right one; a wrong one it stores all the same.
    "moto": {
        C.CHECKSUM_CHECKED: O.IGNORED,
        C.PAYLOAD_HASH_CHECKED: O.IGNORED,
        C.ANONYMOUS_WRITE: O.BROKEN,
        C.SECRET_CHECKED: O.IGNORED,
    },
}

UNSURE = {
    # Lets two writers win on about 1 key of 120.
    "moto": {C.PUT_IF_ABSENT_RACED, C.PUT_IF_MATCH_RACED},
}
"""What comes out one way or the other."""


def bad(report: StoreReport) -> dict[C, O]:
    return {each.capability: each.outcome for each in report.findings if each.outcome is not O.HOLDS}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", list(EXPECTED))
async def test_what_each_server_enforces(name: str, start_storage: Callable[[str], str]) -> None:
    """Every lie that is known of a server is found, and nothing else is held against it."""
    report = await check_storage(start_storage(name), short=False)
    unsure = UNSURE.get(name, set())
    assert {key: value for key, value in bad(report).items() if key not in unsure} == EXPECTED[name]
    races = {C.PUT_IF_ABSENT_RACED, C.PUT_IF_MATCH_RACED} & {each.capability for each in report.findings}
    assert races == {
        raced
        for serial, raced in ((C.PUT_IF_ABSENT, C.PUT_IF_ABSENT_RACED), (C.PUT_IF_MATCH, C.PUT_IF_MATCH_RACED))
        if serial not in EXPECTED[name]
    }


@pytest.mark.parametrize(
    ("name", "mirror", "witness"),
    [
        ("seaweedfs", Verdict.OK, Verdict.OK),
        ("rgw", Verdict.OK, Verdict.OK),
        ("rclone", Verdict.DEGRADED, Verdict.REFUSED),
        ("nanio", Verdict.DEGRADED, Verdict.REFUSED),
        ("juicefs", Verdict.DEGRADED, Verdict.REFUSED),
        ("localbucket", Verdict.REFUSED, Verdict.REFUSED),
        ("moto", Verdict.REFUSED, Verdict.REFUSED),
    ],
)
async def test_the_short_form_tells_them_apart(
    name: str, mirror: Verdict, witness: Verdict, start_storage: Callable[[str], str]
) -> None:
    """What `sync` asks once per storage is enough to keep a witness off a bucket without compare-and-swap (P7)."""
    report = await check_storage(start_storage(name), short=True)
    assert (report.verdict_for(Role.MIRROR), report.verdict_for(Role.WITNESS)) == (mirror, witness)


async def test_s3rver_cannot_be_opened(use_credentials: Callable[[S3Server], None]) -> None:
    """It lists keys as they are where they were asked for percent-encoded, so our client does not trust its listings.

    (Its end, once it meets a component of 255 bytes, is why `KEY_LONG` is the last probe.)
    """
    try:
        with s3rver() as server:
            use_credentials(server)
            make_bucket(server)
            with pytest.raises(StorageError, match="not URL-encoded"):
                await check_storage(server.address(BUCKET, "probe"), short=False)
    except NotInstalledError as error:
        pytest.skip(str(error))
