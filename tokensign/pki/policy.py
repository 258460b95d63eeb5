"""What a user trusts: the input of path validation."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pyhanko_certvalidator.policy_decl import PKIXValidationParams

from tokensign.pki.anchors import AnchorStore
from tokensign.pki.purpose import Purpose
from tokensign.pki.revocation import RevocationMode, load_crls, load_ocsp_responses

if TYPE_CHECKING:
    from pyhanko_certvalidator.revinfo.archival import CRLContainer, OCSPContainer

    from tokensign.certificates import Certificate

__all__ = ["PolicyInputs", "TrustPolicy"]


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
    """

    anchors: tuple[Certificate, ...]
    purpose: Purpose = Purpose.EMAIL_PROTECTION
    revocation: RevocationMode = "off"
    crls: tuple[bytes, ...] = field(default=(), repr=False)
    ocsp_responses: tuple[bytes, ...] = field(default=(), repr=False)
    legacy: bool = False
    maximum_path_length: int | None = None
    policies: PolicyInputs = field(default_factory=PolicyInputs)

    # What the validator makes of these, made once a policy.

    @cached_property
    def anchor_store(self) -> AnchorStore:
        """The anchors that may issue."""
        return AnchorStore(self.anchors, maximum_path_length=self.maximum_path_length, legacy=self.legacy)

    @cached_property
    def crl_containers(self) -> list[CRLContainer]:
        """The CRLs, parsed.

        Raises:
            MalformedError: One is not a CRL.
            UntrustedError: One has a signature that is too weak.
        """
        return load_crls(self.crls, legacy=self.legacy)

    @cached_property
    def ocsp_containers(self) -> list[OCSPContainer]:
        """The OCSP responses, parsed.

        Raises:
            MalformedError: One is not an OCSP response with an answer.
            UntrustedError: One has a signature that is too weak.
        """
        return load_ocsp_responses(self.ocsp_responses, legacy=self.legacy)

    @cached_property
    def parameters(self) -> PKIXValidationParams:
        """The policy inputs."""
        return PKIXValidationParams(
            user_initial_policy_set=self.policies.initial_policies or frozenset({"any_policy"}),
            initial_explicit_policy=self.policies.require_explicit_policy,
            initial_policy_mapping_inhibit=self.policies.inhibit_policy_mapping,
            initial_any_policy_inhibit=self.policies.inhibit_any_policy,
        )
