"""Who may see what: security labels held against a reader's clearance (RFC 2634 section 3.1).

A clearance is a TOML file:

    [[policy]]
    id = "1.3.6.1.4.1.55555.1"
    name = "Acme"
    highest = "confidential"
    categories = ["1.3.6.1.4.1.55555.1.7"]
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tokensign.errors import ConfigurationError, PolicyError
from tokensign.ess.labels import CLASSIFICATIONS, MAX_CLASSIFICATION, SecurityLabel
from tokensign.files import read_small

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tokensign.ess.attributes import EssAttributes

__all__ = ["Clearance", "PolicyClearance", "agreed_label", "classification", "load_clearance"]

_MAX_FILE_SIZE: Final = 1 << 20  # octets; a policy takes about 100
_HINT: Final = 'write [[policy]] with id = "1.2.3", highest = "secret" and categories = []'


@dataclass(frozen=True, slots=True)
class PolicyClearance:
    """What a reader may see under one policy.

    Attributes:
        policy: Its identifier, dotted.
        name: What people call it.
        highest: The highest classification, 0 through 256.
        categories: The types of categories that the reader is cleared for, dotted.
    """

    policy: str
    name: str
    highest: int
    categories: frozenset[str] = frozenset()

    def check(self, label: SecurityLabel) -> None:
        """Check that the reader may see content with a label of this policy.

        Raises:
            PolicyError: The reader may not.
        """
        if (label.classification or 0) > self.highest:
            allowed = SecurityLabel(self.policy, self.highest).classification_name
            raise PolicyError(
                f"the content is {label.classification_name} by policy {self.name}, you may see {allowed}",
                hint="ask its sender, or whoever keeps the clearance file",
            )
        if missing := {category.kind for category in label.categories} - self.categories:
            raise PolicyError(
                f"the content has the category {min(missing)} by policy {self.name}, for which you have no"
                " clearance",
                hint="ask its sender, or whoever keeps the clearance file",
            )


@dataclass(frozen=True, slots=True)
class Clearance:
    """What a reader may see.

    Attributes:
        policies: The policies that are known here.
    """

    policies: tuple[PolicyClearance, ...]

    def check(self, label: SecurityLabel, equivalent: Iterable[SecurityLabel] = ()) -> SecurityLabel:
        """Check that the reader may see content (RFC 2634 sections 3.1.2 and 3.4.2).

        Equivalent labels count only where the policy of the label itself is not known; of them, the first one
        whose policy is.

        Args:
            label: The label.
            equivalent: The same by other policies.

        Returns:
            The label that decided.

        Raises:
            PolicyError: The reader may not see it, or no policy is known.
        """
        known = {clearance.policy: clearance for clearance in self.policies}
        for candidate in (label, *equivalent):
            if candidate.policy in known:
                known[candidate.policy].check(candidate)
                return candidate
        raise PolicyError(
            f"the content is labelled by policy {label.policy}, which is not known here",
            hint="add the policy to the clearance file",
        )


def agreed_label(verified: Iterable[EssAttributes]) -> tuple[SecurityLabel, tuple[SecurityLabel, ...]] | None:
    """The one label of a message and its equivalents, or None where it has none (RFC 2634 section 3.1).

    Args:
        verified: The attributes of every signature of one layer that holds.

    Raises:
        PolicyError: A signature has another label than the others, or none.
    """
    found = {(entry.security_label, entry.equivalent_labels) for entry in verified}
    if len({label for label, _ in found}) > 1:
        raise PolicyError(
            "the signatures of the message carry different security labels",
            hint="ask its sender for a message whose signers agree",
        )
    for label, equivalent in sorted(found, key=lambda entry: len(entry[1]), reverse=True):
        if label is not None:
            return label, equivalent
    return None


def load_clearance(path: str | Path) -> Clearance:
    """Read a clearance file.

    Args:
        path: The file, in TOML.

    Raises:
        ConfigurationError: It cannot be understood.
        FileError: It cannot be read.
    """
    try:
        document = tomllib.loads(read_small(path, _MAX_FILE_SIZE).decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}", hint=_HINT) from error
    entries = document.pop("policy", [])
    if document or not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{path} is not a clearance file", hint=_HINT)
    policies = tuple(_policy(entry, path) for entry in entries)
    if len({policy.policy for policy in policies}) != len(policies):
        raise ConfigurationError(f"{path} has the same policy twice")
    return Clearance(policies)


def _policy(entry: Any, path: str | Path) -> PolicyClearance:  # noqa: ANN401 - what TOML has
    match entry:
        case {"id": str(policy), "highest": str() | int() as highest, **others} if (
            others.keys() <= {"name", "categories"}
            and isinstance(name := others.get("name", policy), str)
            and isinstance(categories := others.get("categories", []), list)
            and all(isinstance(category, str) for category in categories)
        ):
            return PolicyClearance(policy, name, classification(highest), frozenset(categories))
        case _:
            raise ConfigurationError(f"a policy in {path} cannot be understood", hint=_HINT)


def classification(value: str | int) -> int:
    """A classification as people write it: "secret", or a number.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(value, str) and value in CLASSIFICATIONS:
        return CLASSIFICATIONS.index(value)
    try:
        number = int(value)
    except ValueError:
        number = -1
    if not 0 <= number <= MAX_CLASSIFICATION:
        names = ", ".join(CLASSIFICATIONS)
        raise ConfigurationError(
            f"{value!r} is no classification", hint=f"write {names}, or a number through {MAX_CLASSIFICATION}"
        )
    return number
