"""Selection: all rules together, free of contradictions.

Rules:

- Rules add up: a version is wanted as soon as one rule wants it. Deny rules then take away, and always win; what they
  take is reported with their reason, also where a lockfile pins it.
- Two rules for one pattern that name different limits are a contradiction, and so are two pins with different
  integrities: a `SelectionError` names where each came from. An empty selection is one as well.
- A glob needs a list of names (`expand`); nothing is guessed, and a glob that matches nothing is an error.

What this module does not do: read files, know which names or versions exist, or judge one version
(`mirrorwitness.mirror.choice` does, where later gates such as age, advisories and approvals also belong).
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError, SelectionError
from mirrorwitness.mirror.choice import Blocked, BlockedKind, Choice, choose
from mirrorwitness.mirror.patterns import Globs, is_glob
from mirrorwitness.mirror.rules import DenyRule, Rule, make_deny_rule, make_rule, parse_rule, rules_of_lockfile
from mirrorwitness.npm.integrity import is_same_content
from mirrorwitness.npm.names import PackageName, Version, parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Blocked",
    "BlockedKind",
    "Choice",
    "DenyRule",
    "Rule",
    "Selection",
    "choose",
    "expand",
    "make_deny_rule",
    "make_rule",
    "make_selection",
    "parse_names",
    "parse_rule",
    "rules_of_lockfile",
]


class Selection:
    """All rules together; immutable. Make it with `make_selection`."""

    def __init__(self, rules: Iterable[Rule], denied: Iterable[DenyRule] = ()) -> None:
        self.rules = tuple(rules)
        self.denied = tuple(denied)
        self._exact: dict[str, list[Rule]] = defaultdict(list)
        for rule in self.rules:
            if rule.is_exact:
                self._exact[rule.pattern].append(rule)
        self._globbed = [(rule, Globs([rule.pattern])) for rule in self.rules if not rule.is_exact]
        self._any_glob = Globs(self.globs())
        self._deny_globs = [(rule, Globs([rule.pattern])) for rule in self.denied if is_glob(rule.pattern)]
        self._any_deny_glob = Globs(rule.pattern for rule, _ in self._deny_globs)
        self._deny_exact: dict[str, list[DenyRule]] = defaultdict(list)
        for deny in self.denied:
            if not is_glob(deny.pattern):
                self._deny_exact[deny.pattern].append(deny)

    def __repr__(self) -> str:
        return f"<Selection {len(self._exact)} names, {len(self.globs())} globs, {len(self.denied)} deny rules>"

    def names(self) -> tuple[PackageName, ...]:
        """Return the packages that rules name exactly, in order."""
        return tuple(PackageName(name) for name in self._exact)

    def globs(self) -> tuple[str, ...]:
        """Return the globs, in order."""
        return tuple(dict.fromkeys(rule.pattern for rule in self.rules if not rule.is_exact))

    def matches(self, name: str) -> bool:
        """Say whether any rule wants something of a package; deny rules are not asked."""
        return name in self._exact or self._any_glob.matches(name)

    def rules_for(self, name: str) -> tuple[Rule, ...]:
        """Return the rules that apply to a package, those that name it first."""
        exact = tuple(self._exact.get(name, ()))
        if not self._any_glob.matches(name):
            return exact
        return exact + tuple(rule for rule, glob in self._globbed if glob.matches(name))

    def denials_for(self, name: str) -> tuple[DenyRule, ...]:
        """Return the deny rules that apply to a package, those that name it first."""
        exact = tuple(self._deny_exact.get(name, ()))
        if not self._any_deny_glob.matches(name):
            return exact
        return exact + tuple(rule for rule, glob in self._deny_globs if glob.matches(name))

    def fingerprint(self, name: str) -> str:
        """Return a hex digest that changes when what the selection means for a package changes.

        Origins, reasons, the order of rules and rules for other packages are not part of it.
        """
        wishes = {
            json.dumps([
                rule.is_exact,
                rule.range_text,
                rule.latest,
                rule.prereleases,
                rule.tag,
                sorted(rule.pins.items()),
            ])
            for rule in self.rules_for(name)
        }
        denials = {json.dumps(rule.range_text) for rule in self.denials_for(name)}
        return hashlib.sha256(json.dumps([sorted(wishes), sorted(denials)]).encode()).hexdigest()


def make_selection(rules: Iterable[Rule], denied: Iterable[DenyRule] = ()) -> Selection:
    """Put rules together and check that they do not contradict each other.

    Args:
        rules: what is wanted; the same rule from two places counts once.
        denied: what is not.

    Returns:
        The selection.

    Raises:
        SelectionError: nothing is selected, or two rules contradict each other; the message names both.
    """
    kept: list[Rule] = []
    limits: dict[tuple[str, str | None], Rule] = {}
    pins: dict[tuple[str, Version], tuple[str, Rule]] = {}
    for rule in rules:
        if rule.pins:
            _check_pins(rule, pins)
        elif rule.tag is None:
            other = limits.setdefault((rule.pattern, rule.range_text), rule)
            if (other.latest, other.prereleases) != (rule.latest, rule.prereleases):
                raise SelectionError(f"two rules contradict each other: {other}, and {rule}. Keep one of them")
        kept.append(rule)
    if not kept:
        raise SelectionError(
            "nothing is selected: name packages (`react`, `@babel/*`, `react@^18`), give --lockfile FILE, or write "
            "[[select]] rules into mirrorwitness.toml"
        )
    return Selection(kept, denied)


def expand(selection: Selection, names: Iterable[PackageName] | None) -> tuple[PackageName, ...]:
    """Return the concrete packages of a selection.

    Args:
        selection: names and globs.
        names: the names that globs are matched against; None where no list is at hand.

    Returns:
        The exact names first, then what the globs match, each once.

    Raises:
        SelectionError: there is a glob and no list of names, or a glob that matches none of them.
    """
    found = dict.fromkeys(selection.names())
    open_rules = {rule.pattern: rule for rule in selection.rules if not rule.is_exact}
    if open_rules and names is None:
        rule = next(iter(open_rules.values()))
        raise SelectionError(
            f"the glob {rule.pattern} ({rule.origin}) needs a list of package names to choose from: give "
            "--names-from FILE with one name on each line, or name the packages"
        )
    for name in names or ():
        if selection.matches(name):
            found[name] = None
            for rule in selection.rules_for(name):
                open_rules.pop(rule.pattern, None)
    if open_rules:
        listed = ", ".join(f"{rule.pattern} ({rule.origin})" for rule in open_rules.values())
        raise SelectionError(f"no package name matches {listed}: correct it, or add names to the list")
    return tuple(found)


def _check_pins(rule: Rule, seen: dict[tuple[str, Version], tuple[str, Rule]]) -> None:
    for version, integrity in rule.pins.items():
        if integrity is None:
            continue
        other, owner = seen.setdefault((rule.pattern, version), (integrity, rule))
        if is_same_content(other, integrity) is False:
            raise SelectionError(
                f"{rule.pattern}@{version} is pinned to two contents: {other} ({owner.origin}), and {integrity} "
                f"({rule.origin}). One of the lockfiles was altered"
            )


def parse_names(text: str, *, path: str) -> tuple[PackageName, ...]:
    """Read a list of names: one on each line, ``#`` begins a comment.

    Args:
        text: the file's text.
        path: the file's path, for messages.

    Returns:
        The names in order, each once.

    Raises:
        SelectionError: a line is not a package name.
    """
    names: dict[PackageName, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name = line.partition("#")[0].strip().removeprefix("\ufeff")
        if name:
            try:
                names[parse_name(name)] = None
            except ConfigurationError as error:
                raise SelectionError(f"{path}: line {number}: {error}") from error
    return tuple(names)
