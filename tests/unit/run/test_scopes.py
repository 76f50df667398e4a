"""Scopes that are at home elsewhere: never asked for at another registry (attack: dependency confusion)."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.mirror.select import Selection, make_deny_rule, make_selection, parse_rule
from mirrorwitness.npm.names import PackageName
from mirrorwitness.run.scopes import Home, is_same_registry, keep_home, show_registry

PUBLIC = "https://registry.example"
CORP = Home("https://npm.corp.example/", "/home/me/.npmrc")
NAMES = [PackageName(name) for name in ("left", "@corp/a", "@corp/b", "@corporate/c", "@other/d")]


def select(*denied: tuple[str, str | None]) -> Selection:
    rules = [make_deny_rule(name, versions=versions, reason="ours", origin="m.toml") for name, versions in denied]
    return make_selection([parse_rule("left", origin="test")], rules)


def test_names_without_a_scope_or_of_an_unknown_one_are_the_authoritys() -> None:
    """Only what somebody said counts; a scope that begins alike is another one."""
    names = [NAMES[0], NAMES[3], NAMES[4]]
    assert keep_home(names, select(), {"@corp": CORP}, authority=PUBLIC) == (names, [])


def test_a_scope_at_home_at_the_authority_is_asked_for() -> None:
    """Trailing slashes and default ports make no other registry."""
    homes = {"@corp": Home("https://REGISTRY.example:443/", "x")}
    assert keep_home(NAMES, select(), homes, authority=PUBLIC) == (NAMES, [])


def test_attack_dependency_confusion_is_refused() -> None:
    """The message names the packages, the scope, where it is at home and who says so, and every way on."""
    with pytest.raises(ConfigurationError) as caught:
        keep_home(NAMES, select(), {"@corp": CORP}, authority=PUBLIC)
    assert str(caught.value) == (
        "@corp/a, @corp/b: packages of @corp are at home at https://npm.corp.example/ (/home/me/.npmrc), and this "
        "mirror asks https://registry.example; nothing was asked. Mirror them into a storage of their own (--registry "
        'https://npm.corp.example/ --storage ANOTHER), or keep them out with a [[deny]] rule for "@corp/*". If '
        "https://registry.example is right for them, say so in the configuration: "
        'scopes = {"@corp" = "https://registry.example"}'
    )


def test_a_long_list_is_shortened() -> None:
    """A lockfile may hold hundreds."""
    names = [PackageName(f"@corp/p{number}") for number in range(9)]
    with pytest.raises(ConfigurationError, match=r"@corp/p4 and 4 more: packages of @corp"):
        keep_home(names, select(), {"@corp": CORP}, authority=PUBLIC)


def test_what_is_denied_whole_is_left_out() -> None:
    """A deny rule for all versions is a way on; one for some versions is none, because the name would be asked for."""
    homes = {"@corp": CORP}
    kept, left_out = keep_home(NAMES, select(("@corp/*", None)), homes, authority=PUBLIC)
    assert kept == [NAMES[0], NAMES[3], NAMES[4]]
    assert left_out == [
        f"{name}: not asked for: it is denied, and at home at https://npm.corp.example/"
        for name in ("@corp/a", "@corp/b")
    ]
    with pytest.raises(ConfigurationError, match="@corp/a, @corp/b"):
        keep_home(NAMES, select(("@corp/*", "^1")), homes, authority=PUBLIC)


@pytest.mark.parametrize(
    "other",
    [
        "http://registry.example",
        "https://registry.example:8443",
        "https://registry.example/private",
        "https://registry.example.evil",
        "https://sub.registry.example",
        "https://registry.example/?x",
        "https://[x",
        "${UNSET}",
        "",
    ],
)
def test_in_doubt_it_is_another_registry(other: str) -> None:
    """Another scheme, port or path may be another registry, and what is no address is none."""
    assert not is_same_registry(other, PUBLIC)


def test_no_secret_is_shown() -> None:
    """An address in an npmrc may hold a password or a token in its query."""
    assert show_registry("https://me:secret@npm.corp.example/a?token=secret") == "https://npm.corp.example/a"
    assert show_registry("${UNSET}") == "${UNSET}"
