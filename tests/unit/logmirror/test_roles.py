"""Roles: three kinds of statement, and no key or name that has two of them."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.logmirror.roles import (
    ARTIFACTS,
    LOG_MIRROR,
    WITNESS,
    Role,
    RoleView,
    check_retirable,
    check_roles,
    in_role,
)
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.witness.logs import LogSet
from mirrorwitness.witness.startup import open_identity
from tests.fakes.storage import MemoryStorage
from tests.unit.logmirror.world import LAB, OURS, OURS_PQ, MirrorWorld, witnessed
from tests.unit.witness.world import OURS as WITNESS_KEY

SAME_NAME = make_signer_key(WITNESS_KEY.name, bytes([77] * 32), KeyType.ML_DSA_44)
SAME_KEY = make_signer_key("other.example", WITNESS_KEY.seed, KeyType.COSIGNATURE)


@pytest.mark.parametrize("key", [WITNESS_KEY, SAME_NAME, SAME_KEY])
@pytest.mark.parametrize("role", [LOG_MIRROR, ARTIFACTS])
async def test_attack_a_key_or_name_with_two_roles(key: object, role: Role) -> None:
    """A witness's key, and its name, is refused for both other statements."""
    assert isinstance(key, type(WITNESS_KEY))
    storage = MemoryStorage()
    await open_identity(storage, None, [WITNESS_KEY.verifier])
    with pytest.raises(ConfigurationError, match="that of the witness of this storage"):
        await check_roles(storage, role, [OURS.verifier, key.verifier])


async def test_three_roles_with_keys_of_their_own_share_a_storage() -> None:
    """Each has its own places; none sees those of the others."""
    storage = MemoryStorage()
    keys = [make_signer_key(f"r{at}.example", bytes([60 + at] * 32), KeyType.COSIGNATURE) for at in range(3)]
    for role, key in zip((WITNESS, LOG_MIRROR, ARTIFACTS), keys, strict=True):
        await check_roles(storage, role, [key.verifier])
        await open_identity(RoleView(storage, role, []), None, [key.verifier])
    assert sorted(storage.objects) == [f"{role.state}identity.json" for role in (ARTIFACTS, LOG_MIRROR, WITNESS)]
    for role, key in zip((WITNESS, LOG_MIRROR, ARTIFACTS), reversed(keys), strict=True):
        if role is not LOG_MIRROR:
            with pytest.raises(ConfigurationError, match="a name and a key of its own"):
                await check_roles(storage, role, [key.verifier])
    storage.set_bytes(f"{WITNESS.state}identity.json", b"{")
    with pytest.raises(ConfigurationError, match="damaged"):
        await check_roles(storage, LOG_MIRROR, [OURS.verifier])


async def test_attack_the_log_mirror_s_key_signs_for_a_witness() -> None:
    """SPEC: a witness service "MUST be a distinct cosigner from the mirror cosigner, with a distinct name"."""
    storage = MemoryStorage()
    await open_identity(RoleView(storage, LOG_MIRROR, []), None, [OURS.verifier])
    with pytest.raises(ConfigurationError, match="that of the log mirror of this storage"):
        await check_roles(storage, WITNESS, [OURS.verifier])
    with pytest.raises(ConfigurationError, match="give it up with `mirrorwitness logmirror retire`"):
        await check_retirable(storage, WITNESS, [OURS.verifier])
    await check_retirable(storage, LOG_MIRROR, [OURS.verifier, WITNESS_KEY.verifier])


def test_attack_a_log_with_the_name_of_the_mirror() -> None:
    """Refused, and so is one with its key."""
    log = witnessed(LAB)
    named = make_signer_key(LAB.origin, bytes([9] * 32), KeyType.COSIGNATURE)
    with pytest.raises(ConfigurationError, match="no name has two roles"):
        LogSet([log], cosigners=[named.verifier])


async def test_a_view_gives_keys_other_prefixes() -> None:
    """Every operation, there and back; what is public is listed by the logs that are known."""
    storage = MemoryStorage()
    view = RoleView(storage, LOG_MIRROR, ["b" * 64, "a" * 64, "c" * 64])
    await view.put(f"witness/{'a' * 64}/checkpoint", b"one")
    await view.put(f"witness/{'b' * 64}/checkpoint", b"two")
    await view.put("state/witness/logs/x.json", b"three")
    await view.put("state/witness/logs/y.json", b"four")
    storage.set_bytes(f"logmirror/{'a' * 64}/tile/0/000", b"a tile")
    storage.set_bytes("state/witness/logs/z.json", b"of the witness")
    found = await view.list("witness/")
    assert [info.key for info in found.objects] == [f"witness/{'a' * 64}/checkpoint", f"witness/{'b' * 64}/checkpoint"]
    page = await view.list("state/witness/logs/", limit=1)
    assert ([info.key for info in page.objects], page.more_after) == (["state/witness/logs/x.json"],) * 1 + (
        "state/witness/logs/x.json",
    )
    page = await view.list("state/witness/logs/", after="state/witness/logs/x.json")
    assert ([info.key for info in page.objects], page.more_after) == (["state/witness/logs/y.json"], None)
    async with view.open("state/witness/logs/x.json", start=1) as reader:
        assert await reader.receive_some() == b"hree"
    await view.delete("state/witness/logs/x.json")
    assert await view.stat("state/witness/logs/x.json") is None
    assert "state/logmirror/logs/y.json" in storage.objects
    with pytest.raises(ConfigurationError, match="no key of a cosigner"):
        await view.stat("npm/x")
    assert "log mirror" in repr(view)


def test_messages_name_the_commands_of_the_role() -> None:
    """What a witness's state says of its ways out is true for a mirror as well."""
    text = "go on (`mirrorwitness witness adopt`)"
    assert in_role(text, LOG_MIRROR) == "go on (`mirrorwitness logmirror adopt`)"
    assert in_role(text, WITNESS) == text


async def test_two_keys_of_one_mirror() -> None:
    """Ed25519 and ML-DSA-44 may have one name: they are one mirror."""
    world = MirrorWorld(keys=(OURS, OURS_PQ))
    assert "2 logs" in repr(await world.start())
