"""What a user trusts: the input of path validation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pyhanko_certvalidator.policy_decl import PKIXValidationParams

from tokensign.pki.anchors import AnchorStore
from tokensign.pki.chain_cache import fingerprint
from tokensign.pki.purpose import Purpose
from tokensign.pki.revocation import Inquiry, RevocationMode, load_crls, load_ocsp_responses
from tokensign.pki.revocation.online import Online

if TYPE_CHECKING:
    from datetime import timedelta

    from tokensign.certificates import Certificate
    from tokensign.pki.http import Fetch
    from tokensign.pki.revocation import RevocationCache
    from tokensign.pki.revocation.crl import Crl
    from tokensign.pki.revocation.ocsp import OcspAnswer

__all__ = ["ANY_POLICY", "PolicyInputs", "TrustPolicy"]

ANY_POLICY: Final = "2.5.29.32.0"  # RFC 5280 section 4.2.1.4


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """What the user asks of certificate policies (RFC 5280 section 6.1.1, c to g); by default nothing.

    Attributes:
        initial_policies: The acceptable policies, dotted; empty for any.
        require_explicit_policy: Whether the path must be valid for at least one of them.
        inhibit_policy_mapping: Whether CAs may not map policies.
        inhibit_any_policy: Whether anyPolicy in certificates does not count.
    """

    initial_policies: frozenset[str] = frozenset()
    require_explicit_policy: bool = False
    inhibit_policy_mapping: bool = False
    inhibit_any_policy: bool = False


@dataclass(frozen=True)
class TrustPolicy:
    """Whom to trust, for what, and how strictly. Make one and use it for many certificates.

    Attributes:
        anchors: The trusted certificates: CAs, or people's own certificates, which vouch for themselves only.
        purpose: What the signatures are about.
        revocation: "off": nobody asks. "prefer": the CRLs and OCSP responses at hand are used, and may be
            missing. "require": they may not.
        crls: CRLs at hand, DER or PEM.
        ocsp_responses: OCSP responses at hand, DER.
        legacy: Whether MD5, SHA-1, DSA, short keys and version 1 roots are accepted.
        maximum_path_length: CA certificates between anchor and signer at the most, or None.
        policies: What is asked of certificate policies.
        maximum_age: How old revocation information may be, or None: until newer one is due.
        fetch: Asks for what certificates name by URL, their issuers' certificates and what tells whether they
            were revoked; such as an `HttpClient`. None: nothing is fetched. Not compared: who answers does
            not decide what is valid.
        cache: Where revocation information that was fetched is kept for the next time, or None. Not compared.
    """

    anchors: tuple[Certificate, ...]
    purpose: Purpose = Purpose.EMAIL_PROTECTION
    revocation: RevocationMode = "off"
    crls: tuple[bytes, ...] = field(default=(), repr=False)
    ocsp_responses: tuple[bytes, ...] = field(default=(), repr=False)
    legacy: bool = False
    maximum_path_length: int | None = None
    policies: PolicyInputs = field(default_factory=PolicyInputs)
    maximum_age: timedelta | None = None
    fetch: Fetch | None = field(default=None, repr=False, compare=False)
    cache: RevocationCache | None = field(default=None, repr=False, compare=False)

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 over all of it: policies with the same one decide alike."""
        return fingerprint(self)

    @cached_property
    def for_timestamps(self) -> TrustPolicy:
        """The same for timestamp authorities, who have another purpose and other certificate policies."""
        if self.purpose is Purpose.TIME_STAMPING:
            return self
        return replace(self, purpose=Purpose.TIME_STAMPING, policies=PolicyInputs())

    # What the validator makes of these, made once a policy.

    @cached_property
    def anchor_store(self) -> AnchorStore:
        """The anchors that may issue."""
        return AnchorStore(self.anchors, maximum_path_length=self.maximum_path_length, legacy=self.legacy)

    def inquiry(self) -> Inquiry:
        """What is known about revocation at the beginning of a validation.

        Raises:
            MalformedError: A CRL or an OCSP response cannot be read.
            UntrustedError: One has a signature that is too weak.
        """
        if self.revocation == "off":
            return Inquiry("off")
        crls, ocsp_answers = self._given
        return Inquiry(
            self.revocation,
            crls=crls,
            ocsp_answers=ocsp_answers,
            legacy=self.legacy,
            maximum_age=self.maximum_age,
            online=Online(self.fetch, self.cache, legacy=self.legacy) if self.fetch else None,
        )

    @cached_property
    def _given(self) -> tuple[list[Crl], list[OcspAnswer]]:
        """The CRLs and OCSP responses, parsed."""
        return (
            load_crls(self.crls, legacy=self.legacy),
            load_ocsp_responses(self.ocsp_responses, legacy=self.legacy),
        )

    @cached_property
    def parameters(self) -> PKIXValidationParams:
        """The policy inputs."""
        return PKIXValidationParams(
            user_initial_policy_set=frozenset(
                "any_policy" if policy == ANY_POLICY else policy
                for policy in self.policies.initial_policies or (ANY_POLICY,)
            ),
            initial_explicit_policy=self.policies.require_explicit_policy,
            initial_policy_mapping_inhibit=self.policies.inhibit_policy_mapping,
            initial_any_policy_inhibit=self.policies.inhibit_any_policy,
        )
