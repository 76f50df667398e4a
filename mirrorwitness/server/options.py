"""What an operator can set about serving; the defaults and why they are what they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirrorwitness.mirror.health import HealthTerms

__all__ = ["ServeOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Options of `mirrorwitness.server.make_app`.

    Attributes:
        public_url: the URL that clients know this mirror by; None takes it from each request, as
            `mirrorwitness.server.origin` says.
        trust_forwarded: a proxy in front sets ``X-Forwarded-Proto``, ``-Host`` and ``-Prefix``, and clients cannot
            reach this server but through it.
        packument_max_age: seconds that a shared cache may keep a document; upstream's own value is 300.
        cache_bytes: bytes of rendered and compressed documents kept in memory; 64 MiB hold some thousand popular
            packages compressed.
        fresh_seconds: how long an object's size and tag are believed without asking the storage again: at 1 s a busy
            mirror asks S3 once a second for a package, whatever its clients do, and new versions appear a second late.
        budget: requests to upstream that are allowed in a month, for the status page and metrics; 0: none is kept.
        health: when the mirror is stuck, so that readiness says no.
        at: answer as the registry stood at this tree size of the log; None: as it stands now.
    """

    public_url: str | None = None
    trust_forwarded: bool = False
    packument_max_age: int = 300
    cache_bytes: int = 64 * 1024 * 1024
    fresh_seconds: float = 1.0
    budget: int = 0
    health: HealthTerms = field(default_factory=HealthTerms)
    at: int | None = None
