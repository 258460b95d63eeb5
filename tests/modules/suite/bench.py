"""What the cases of the suite share: the open token, its keys, and certificates for them."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pkcs11.constants import DEFAULT, Attribute, MechanismFlag
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType

from tests.modules.suite.cells import CannotDoError
from tests.modules.suite.direct import ASKED, generation_answer, name_of
from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.certificates import Certificate
from tokensign.cms.decrypt import decrypt
from tokensign.errors import MechanismError
from tokensign.token import generate_key, import_certificate, list_keys, open_key, open_token

if TYPE_CHECKING:
    from pathlib import Path

    from tests.modules.control import Control
    from tokensign.keys import DecryptionKey
    from tokensign.token import KeyInfo, Module, PinSource, Token, TokenKey

__all__ = ["MESSAGE", "Bench", "decrypted"]

MESSAGE: Final = b"message"
_VALIDITY: Final = timedelta(days=1)


class Bench:
    """One token, and what the cases need beside it.

    Attributes:
        module: The module.
        token_label: The token's name.
        pin_source: Where its PIN comes from.
        folder: Where the module's driver finds the PIN of the security officer, and gets what is signed.
        control: Pulls the token out, and the like.
        seconds: How long the soak is.
    """

    def __init__(
        self,
        module: Module,
        token_label: str,
        pin_source: PinSource,
        folder: Path,
        control: Control,
        seconds: float,
    ) -> None:
        self.module = module
        self.token_label = token_label
        self.pin_source = pin_source
        self.folder = folder
        self.control = control
        self.seconds = seconds

    @cached_property
    def token(self) -> Token:
        """The token, open to be changed until the process ends."""
        return self.open(self.pin_source)

    def open(self, pin_source: PinSource, *, allow_last_try: bool = False) -> Token:
        """The token, opened once more."""
        return open_token(
            self.module, self.token_label, pin_source, read_write=True, allow_last_try=allow_last_try
        )

    # --- keys

    @cache  # noqa: B019 - there is one for the whole process
    def generated(self, spec: str, usage: KeyUsage) -> KeyInfo | CannotDoError:
        """A key that was just made, or why the module makes none."""
        kind = KeySpec.parse(spec)
        try:
            return generate_key(self.token, f"{spec} to {usage.value}", kind, usage)
        except MechanismError:
            return CannotDoError(generation_answer(self.token, kind, signs=usage.signs))

    def generate(self, spec: str, usage: KeyUsage) -> KeyInfo:
        """A key that was made in this process.

        Raises:
            CannotDoError: The module makes none.
        """
        made = self.generated(spec, usage)
        if isinstance(made, CannotDoError):
            raise CannotDoError(str(made))
        return made

    def key(self, spec: str, usage: KeyUsage) -> TokenKey:
        """A key of a type: one that is there, or else a new one. Best is one that wants the PIN just once.

        Raises:
            CannotDoError: There is none, and the module makes none.
        """
        there = [
            one
            for one in list_keys(self.token)
            if one.spec == spec and one.serves(usage) and one.label != ASKED
        ]
        there.sort(key=lambda one: bool(one.always_authenticate))
        return open_key(self.token, there[0] if there else self.generate(spec, usage))

    def recipient(self, spec: str) -> TokenKey:
        """A key that decrypts, with a certificate on the token.

        Raises:
            CannotDoError: As for `key`.
        """
        key = self.key(spec, KeyUsage.DECRYPT)
        if key.certificates:
            return key
        import_certificate(self.token, certificate_for(key.public_key))
        return open_key(self.token, key.info)

    def key_that_wants_the_pin_each_time(self, usage: KeyUsage) -> TokenKey:
        """An RSA key with CKA_ALWAYS_AUTHENTICATE; where there is none, it is made, for tokensign makes none.

        Raises:
            CannotDoError: The module makes none, or forgets what it is.
        """
        there = [one for one in list_keys(self.token) if one.always_authenticate]
        if not there:
            there = self._made_to_want_the_pin_each_time()
        fitting = [one for one in there if one.spec.startswith("rsa") and one.serves(usage)]
        if not fitting:
            raise CannotDoError(f"the card has {there[0].label} ({there[0].spec}) only")
        return open_key(self.token, fitting[0])

    def _made_to_want_the_pin_each_time(self) -> list[KeyInfo]:
        label = "each time"
        with self.token.borrow("make a key", change=True) as session:
            try:
                session.binding.generate_keypair(
                    KeyType.RSA,
                    2048,
                    label=label,
                    id=b"each time",
                    store=True,
                    capabilities=MechanismFlag(0),
                    public_template=dict.fromkeys(
                        (Attribute.VERIFY, Attribute.ENCRYPT, Attribute.WRAP), DEFAULT
                    ),
                    private_template={
                        Attribute.PRIVATE: True,
                        Attribute.SENSITIVE: True,
                        Attribute.EXTRACTABLE: False,
                        Attribute.SIGN: True,
                        Attribute.DECRYPT: True,
                        Attribute.ALWAYS_AUTHENTICATE: True,
                    },
                )
            except PKCS11Error as refusal:
                raise CannotDoError(f"C_GenerateKeyPair: {name_of(refusal)}") from None
        made = next(one for one in list_keys(self.token) if one.label == label)
        if not made.always_authenticate:
            raise CannotDoError("a key made with CKA_ALWAYS_AUTHENTICATE does not have it when it is read")
        return [made]


def certificate_for(public_key: Any) -> Certificate:  # noqa: ANN401 - of any type that a certificate can have
    """A certificate for Alice, by somebody whom nobody need trust."""
    issuer = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC).replace(microsecond=0)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Alice")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority")]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALIDITY)
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name("alice@example.org")]), critical=False)
        .sign(issuer, hashes.SHA256())
    )
    return Certificate(made.public_bytes(Encoding.DER))


def decrypted(message: bytes, key: DecryptionKey) -> bytes:
    """The content of an encrypted message."""
    content = io.BytesIO()
    decrypt(io.BytesIO(message), [key], content)
    return content.getvalue()
