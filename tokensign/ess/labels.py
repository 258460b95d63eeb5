"""ESSSecurityLabel: how sensitive a content is (RFC 2634 section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tokensign import der
from tokensign.cms.attributes import EQUIVALENT_LABELS, SECURITY_LABEL, attribute
from tokensign.errors import MalformedError, UsageError
from tokensign.ess.fields import SEQUENCE, SET, fields, integer, octets

__all__ = [
    "CLASSIFICATIONS",
    "MAX_CATEGORIES",
    "MAX_CLASSIFICATION",
    "MAX_EQUIVALENT_LABELS",
    "SecurityCategory",
    "SecurityLabel",
    "equivalent_labels_attribute",
    "load_equivalent_labels",
]

CLASSIFICATIONS: Final = ("unmarked", "unclassified", "restricted", "confidential", "secret", "top-secret")
"""The names of classification 0 through 5 (RFC 2634 section 3.3.2)."""
MAX_CLASSIFICATION: Final = 256  # ub-integer-options, RFC 2634 section 3.2
MAX_CATEGORIES: Final = 64  # ub-security-categories, RFC 2634 section 3.2
MAX_EQUIVALENT_LABELS: Final = 64  # one for each policy that the sender knows; RFC 2634 gives no limit
_MAX_MARK_SIZE: Final = 4096  # octets; a PrintableString has 128 at most (RFC 2634 section 3.2)
_NAME: Final = "ESSSecurityLabel"
_INTEGER, _OBJECT_IDENTIFIER, _UTF8_STRING, _PRINTABLE_STRING = 0x02, 0x06, 0x0C, 0x13
_TYPE: Final = 0x80  # [0] IMPLICIT OBJECT IDENTIFIER
_VALUE: Final = 0xA1  # [1] around anything


@dataclass(frozen=True, slots=True)
class SecurityCategory:
    """One SecurityCategory, whose meaning the policy says.

    Attributes:
        kind: Its type, dotted.
        value: DER.
    """

    kind: str
    value: bytes

    @classmethod
    def load(cls, encoded: bytes) -> SecurityCategory:
        """Read a SecurityCategory.

        Raises:
            MalformedError: It is none.
        """
        kind, value = fields(encoded, SEQUENCE, _NAME, 2, 2)
        dotted = der.dotted(der.tlv(_OBJECT_IDENTIFIER, octets(kind, _NAME, _TYPE)))
        return cls(dotted, *fields(value, _VALUE, _NAME, 1, 1))

    def encode(self) -> bytes:
        """The SecurityCategory, DER."""
        kind = der.tlv(_TYPE, der.content(der.object_identifier(self.kind)))
        return der.sequence(kind, der.tlv(_VALUE, self.value))


@dataclass(frozen=True, slots=True)
class SecurityLabel:
    """How sensitive a content is, in the words of one policy.

    Attributes:
        policy: The security policy that gives the words their meaning, dotted.
        classification: 0 through 256, or None: the label says none.
        privacy_mark: A text for people, such as "IN CONFIDENCE", or None. Nothing is decided by it.
        categories: Further marks, which the policy defines.
    """

    policy: str
    classification: int | None = None
    privacy_mark: str | None = None
    categories: frozenset[SecurityCategory] = frozenset()

    @classmethod
    def load(cls, encoded: bytes) -> SecurityLabel:
        """Read an ESSSecurityLabel; a SET, whose fields come in any order where it is not DER.

        Raises:
            MalformedError: It is none, or exceeds a limit.
        """
        found = fields(encoded, SET, _NAME, 1, 4)
        by_tag = {field[0]: field for field in found}
        marks = [by_tag.pop(tag) for tag in (_UTF8_STRING, _PRINTABLE_STRING) if tag in by_tag]
        policy = by_tag.pop(_OBJECT_IDENTIFIER, None)
        classification = by_tag.pop(_INTEGER, None)
        categories = by_tag.pop(SET, None)
        known = len(marks) + sum(field is not None for field in (policy, classification, categories))
        if policy is None or by_tag or len(marks) > 1 or known != len(found):
            raise MalformedError(f"{_NAME} cannot be read")
        listed = fields(categories, SET, _NAME, 1, MAX_CATEGORIES) if categories else ()
        return cls(
            der.dotted(policy),
            integer(classification, _NAME, MAX_CLASSIFICATION) if classification else None,
            _text(marks[0]) if marks else None,
            frozenset(map(SecurityCategory.load, listed)),
        )

    def encode(self) -> bytes:
        """The ESSSecurityLabel, DER."""
        parts = [der.object_identifier(self.policy)]
        if self.classification is not None:
            parts.append(der.integer(self.classification))
        if self.privacy_mark is not None:
            parts.append(der.utf8_string(self.privacy_mark))
        if self.categories:
            parts.append(der.set_of(*(category.encode() for category in self.categories)))
        return der.set_of(*parts)  # of a SET, DER sorts by tag (X.690 section 10.3), and every tag is another

    def as_attribute(self) -> bytes:
        """The signed attribute ESSSecurityLabel, DER, for `SigningOptions.signed_attributes`.

        Raises:
            UsageError: The classification is out of range, or there are too many categories.
        """
        if self.classification is not None and not 0 <= self.classification <= MAX_CLASSIFICATION:
            raise UsageError(f"a classification is a number from 0 through {MAX_CLASSIFICATION}")
        if len(self.categories) > MAX_CATEGORIES:
            raise UsageError(f"a security label has {MAX_CATEGORIES} categories at most")
        return attribute(SECURITY_LABEL, self.encode())

    @property
    def classification_name(self) -> str:
        """The classification for people: "confidential", or its number where only the policy has a name."""
        if self.classification is None:
            return "no classification"
        if self.classification < len(CLASSIFICATIONS):
            return CLASSIFICATIONS[self.classification]
        return str(self.classification)

    def __str__(self) -> str:
        mark = f" ({self.privacy_mark})" if self.privacy_mark else ""
        return f"{self.classification_name} by policy {self.policy}{mark}"


def load_equivalent_labels(encoded: bytes) -> tuple[SecurityLabel, ...]:
    """Read EquivalentLabels: what the label would be by other policies (RFC 2634 section 3.4).

    Raises:
        MalformedError: They are broken, or exceed a limit.
    """
    return tuple(
        map(SecurityLabel.load, fields(encoded, SEQUENCE, "EquivalentLabels", 1, MAX_EQUIVALENT_LABELS))
    )


def equivalent_labels_attribute(labels: tuple[SecurityLabel, ...]) -> bytes:
    """The signed attribute EquivalentLabels, DER, for `SigningOptions.signed_attributes`."""
    return attribute(EQUIVALENT_LABELS, der.sequence(*(label.encode() for label in labels)))


def _text(encoded: bytes) -> str:
    value = der.content(encoded)
    try:
        if not 1 <= len(value) <= _MAX_MARK_SIZE:
            raise MalformedError("the privacy mark of a security label is empty or too long")
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("the privacy mark of a security label is not text") from error
