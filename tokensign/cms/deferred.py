"""Detached SignedData in two steps, for whoever asks a key for many signatures at once, or in another way.

The first step says what is to be signed, the second makes a message of the signature. `SigningTemplate` is
for keys that can simply be called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensign import der
from tokensign.cms.signed_data_parts import SignedDataParts, join_detached
from tokensign.cms.signer_info import DEFAULT_OPTIONS, SigningOptions, certificates_of, templates_of

if TYPE_CHECKING:
    from datetime import datetime

    from tokensign.algorithms import SignatureScheme
    from tokensign.keys import Signer

__all__ = ["DeferredSigning"]


class DeferredSigning:
    """One signer whose signatures come from elsewhere. Safe for threads.

    Args:
        signer: The key, with its certificate; it is not asked to sign.
        options: How to sign.

    Raises:
        UsageError: The key has no certificate.
        UnsupportedError: It cannot sign the way that was asked for.
    """

    def __init__(self, signer: Signer, options: SigningOptions = DEFAULT_OPTIONS) -> None:
        templates = templates_of([signer], options, options.content_type)
        (self._template,) = templates
        parts = SignedDataParts(
            digest_algorithms=[self.scheme.digest.algorithm_identifier],
            content_type=options.content_type,
            certificates=certificates_of(templates, options),
            signer_infos=[der.sequence(self._template.head)],  # tells its version
        )
        self._before_signer_infos = parts.head(None) + parts.middle()

    @property
    def scheme(self) -> SignatureScheme:
        """How it signs."""
        return self._template.scheme

    def signed_attributes(self, message_digest: bytes, moment: datetime) -> bytes:
        """What is to be signed with `scheme`, DER.

        Args:
            message_digest: The hash value of the content by the scheme's digest.
            moment: The signing time.
        """
        return self._template.signed_attributes(message_digest, moment)

    def message(self, attributes: bytes, signature: bytes) -> bytes:
        """A ContentInfo with SignedData without content, DER.

        Args:
            attributes: From `signed_attributes`.
            signature: The signature over them.

        Raises:
            SigningError: It does not verify.
        """
        return join_detached(self._before_signer_infos, [self._template.signer_info(attributes, signature)])
