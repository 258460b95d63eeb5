"""What is known of modules that differ from the standard or from each other, with the reason: one table.

Where a question can be asked of the token, it is asked, and the table only tells the reader why. Where a
question would cost a PIN or cannot be asked at all, the table decides; the code asks it by `Quirk`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tokensign.token.info import TokenInfo
    from tokensign.token.module import Module

__all__ = ["QUIRKS", "Handling", "KnownQuirk", "Quirk", "quirks_of"]


class Quirk(enum.Enum):
    """A way in which modules differ. The code asks for those whose handling is `Handling.TABLE`."""

    OAEP_SHA1_ONLY = "OAEP with SHA-1 only"
    OAEP_LABEL_FAILS = "OAEP fails with a label"
    LOCAL_DENIED = "CKA_LOCAL is false for keys that were generated"
    OAEP_SAME_HASH = "OAEP takes one hash for the encoding and for MGF1"
    FAILURE_STAYS_ACTIVE = "a decryption that failed stays active in its session"
    FAILURE_KEEPS_KEY = "a key with which an operation failed cannot be deleted any more in this process"
    PSS_LISTED_HASHES = "PSS takes the hashes that have a mechanism of their own"
    PADDING_NOT_TOLD = "a wrong PKCS#1 v1.5 padding gives a random plaintext"
    PADDING_TOLD = "a wrong PKCS#1 v1.5 padding is an error"
    DECRYPTS_TWICE = "C_Decrypt decrypts when only the length is asked for"
    EXACT_BUFFER = "EdDSA wants a buffer of just 64 octets"
    X25519_IS_EDWARDS = "X25519 is of type CKK_EC_EDWARDS"
    X25519_IS_MONTGOMERY = "X25519 is of type CKK_EC_MONTGOMERY"
    RAW_POINTS = "CKA_EC_POINT of the 25519 curves has no OCTET STRING around it"
    BARE_PUBLIC_TEMPLATE = "a public key whose usages are given is not generated"
    GENERATION_LEAKS = "a key generation that fails takes memory of the token with it"
    RAW_RSA_DECRYPTS = "CKM_RSA_PKCS and CKM_RSA_X_509 sign only with keys that may decrypt"
    ECDSA_SIZES = "CKM_ECDSA takes hash values of 20, 32, 48 and 64 octets only"
    CUT_POINT = "CKA_EC_POINT of P-521 is cut off"
    SAME_SERIAL = "every token has the same serial number"
    PADDED_WRAP_NUMBER = "AES key wrap with padding has the number of CKM_AES_KEY_WRAP_PAD"
    DERIVES_TAIL = "a derived AES key is the tail of the secret"
    DERIVES_HEAD = "a derived AES key is the head of the secret"
    UNWRAP_DECIDES = "C_UnwrapKey takes no CKA_SENSITIVE and CKA_EXTRACTABLE"
    OAEP_TRIAL_COSTS = "a trial of OAEP costs an operation of a slow card"
    NEVER_LOCKS = "wrong PINs never lock"
    NO_PIN_COUNTER = "the flags of the PIN counter are never set"
    EACH_TIME_IGNORED = "a key that wants the PIN for each operation works without it"
    LOCK_STAYS_TAKEN = "its lock stays taken when the card leaves in the middle of an operation"
    NOTICES_LATE = "for a moment, a card that has left is taken to be there"
    SEPARATE_FUNCTION_LISTS = "each function list is a world of its own"


class Handling(enum.Enum):
    """How tokensign lives with a quirk."""

    TABLE = "this table decides"
    PROBE = "found out by trying"
    ALWAYS = "the same for all modules"


@dataclass(frozen=True, slots=True)
class KnownQuirk:
    """A quirk of a module.

    Attributes:
        quirk: Which.
        module: Whose, in words, with the version that it was seen with.
        where: What the token or its module say of themselves: beginnings of the attributes of `TokenInfo`,
            and with "library_" before them of `Module`.
        reason: Why it is so, or what shows it.
        handling: Whether this table or a trial decides.
        remedy: What tokensign does.
    """

    quirk: Quirk
    module: str
    where: dict[str, str]
    reason: str
    handling: Handling
    remedy: str

    def fits(self, token: TokenInfo, module: Module | None = None) -> bool:
        """Whether a token has it, as far as it is known what the token or also its module say."""
        said = {"manufacturer": token.manufacturer, "model": token.model}
        if module:
            said["library_manufacturer"] = module.manufacturer
        return all(said.get(name, "").startswith(beginning) for name, beginning in self.where.items())


_SOFTHSM: Final = {"manufacturer": "SoftHSM project"}  # of the token: also seen through p11-kit
_NSS: Final = {"manufacturer": "Mozilla Foundation", "model": "NSS 3"}
_TPM: Final = {"library_manufacturer": "tpm2-software.github.io"}
_OPENCRYPTOKI: Final = {"manufacturer": "IBM"}
_OPENSC: Final = {"library_manufacturer": "OpenSC Project"}
_P11_KIT: Final = {"library_manufacturer": "PKCS#11 Kit"}

QUIRKS: Final = (
    KnownQuirk(
        Quirk.OAEP_SHA1_ONLY,
        "SoftHSM 2.6",
        _SOFTHSM,
        "C_DecryptInit answers CKR_ARGUMENTS_BAD to every other hash",
        Handling.PROBE,
        "raw RSA on the token, OAEP removed on the host",
    ),
    KnownQuirk(
        Quirk.OAEP_LABEL_FAILS,
        "SoftHSM 2.6",
        _SOFTHSM,
        "CKR_GENERAL_ERROR for a ciphertext with a label",
        Handling.TABLE,
        "raw RSA on the token, OAEP removed on the host",
    ),
    KnownQuirk(
        Quirk.OAEP_LABEL_FAILS,
        "tpm2-pkcs11 1.9",
        _TPM,
        "a TPM wants a label that ends with a zero octet; CKR_GENERAL_ERROR for every other",
        Handling.TABLE,
        "raw RSA on the token, OAEP removed on the host",
    ),
    KnownQuirk(
        Quirk.OAEP_SAME_HASH,
        "OpenSC 0.23",
        _OPENSC,
        "C_Decrypt fails for SHA-256 with MGF1 of SHA-1; with a key that wants the PIN each time it answers "
        "CKR_USER_NOT_LOGGED_IN",
        Handling.TABLE,
        "raw RSA on the token, OAEP removed on the host",
    ),
    KnownQuirk(
        Quirk.FAILURE_STAYS_ACTIVE,
        "OpenSC 0.23",
        _OPENSC,
        "CKR_OPERATION_ACTIVE for all that follows in the session",
        Handling.TABLE,
        "the session is closed, and another one opened",
    ),
    KnownQuirk(
        Quirk.FAILURE_STAYS_ACTIVE,
        "tpm2-pkcs11 1.9",
        _TPM,
        "CKR_OPERATION_ACTIVE for all that follows in the session",
        Handling.TABLE,
        "the session is closed, and another one opened",
    ),
    KnownQuirk(
        Quirk.FAILURE_KEEPS_KEY,
        "tpm2-pkcs11 1.9",
        _TPM,
        "it goes on counting the operation; C_DestroyObject answers CKR_FUNCTION_FAILED",
        Handling.ALWAYS,
        "none: `tokensign key delete` is a process of its own, and deletes the key",
    ),
    KnownQuirk(
        Quirk.PSS_LISTED_HASHES,
        "tpm2-pkcs11 1.9",
        _TPM,
        "CKR_MECHANISM_PARAM_INVALID for SHA-224 and SHA-3",
        Handling.TABLE,
        "others are refused before, since a failure has its price there",
    ),
    KnownQuirk(
        Quirk.LOCAL_DENIED,
        "NSS 3.131",
        _NSS,
        "the attribute is false for keys that C_GenerateKeyPair made",
        Handling.TABLE,
        "whether a key was born on the token is told as unknown",
    ),
    KnownQuirk(
        Quirk.PADDING_NOT_TOLD,
        "NSS 3.131",
        _NSS,
        "implicit rejection, against Bleichenbacher's attack",
        Handling.ALWAYS,
        "a content key of a wrong size is replaced by a random one, so both look the same from outside",
    ),
    KnownQuirk(
        Quirk.PADDING_NOT_TOLD,
        "opencryptoki 3.27",
        _OPENCRYPTOKI,
        "implicit rejection, against Bleichenbacher's attack",
        Handling.ALWAYS,
        "a content key of a wrong size is replaced by a random one, so both look the same from outside",
    ),
    KnownQuirk(
        Quirk.PADDING_TOLD,
        "SoftHSM 2.6",
        _SOFTHSM,
        "CKR_GENERAL_ERROR",
        Handling.ALWAYS,
        "every failure of C_Decrypt becomes the one answer that all other failures have",
    ),
    KnownQuirk(
        Quirk.PADDING_TOLD,
        "tpm2-pkcs11 1.9",
        _TPM,
        "CKR_GENERAL_ERROR",
        Handling.ALWAYS,
        "every failure of C_Decrypt becomes the one answer that all other failures have",
    ),
    KnownQuirk(
        Quirk.PADDING_TOLD,
        "OpenSC 0.23",
        _OPENSC,
        "CKR_ENCRYPTED_DATA_INVALID",
        Handling.ALWAYS,
        "every failure of C_Decrypt becomes the one answer that all other failures have",
    ),
    KnownQuirk(
        Quirk.DECRYPTS_TWICE,
        "OpenSC 0.23",
        _OPENSC,
        "the card decrypts to tell the length, and a key that wants the PIN each time then refuses the call",
        Handling.ALWAYS,
        "C_Decrypt is called once, with room for the largest result",
    ),
    KnownQuirk(
        Quirk.EXACT_BUFFER,
        "NSS 3.131",
        _NSS,
        "CKR_ARGUMENTS_BAD for a larger buffer, and when only the length is asked for",
        Handling.ALWAYS,
        "C_Sign gets a buffer of 64 octets",
    ),
    KnownQuirk(
        Quirk.X25519_IS_EDWARDS,
        "SoftHSM 2.6",
        _SOFTHSM,
        "it follows a draft of PKCS#11 3.0 and lacks CKK_EC_MONTGOMERY",
        Handling.PROBE,
        "the types are tried one after the other when a key is generated",
    ),
    KnownQuirk(
        Quirk.X25519_IS_MONTGOMERY,
        "opencryptoki 3.27",
        _OPENCRYPTOKI,
        "as PKCS#11 3.0 section 2.3.5 has it, and of no other type",
        Handling.PROBE,
        "the type is taken where the token lists CKM_EC_MONTGOMERY_KEY_PAIR_GEN",
    ),
    KnownQuirk(
        Quirk.RAW_POINTS,
        "NSS 3.131",
        _NSS,
        "PKCS#11 2.40 wants an OCTET STRING, 3.0 the octets alone",
        Handling.PROBE,
        "the size tells: 32 octets are a point, 34 one in an OCTET STRING",
    ),
    KnownQuirk(
        Quirk.RAW_POINTS,
        "opencryptoki 3.27",
        _OPENCRYPTOKI,
        "PKCS#11 2.40 wants an OCTET STRING, 3.0 the octets alone",
        Handling.PROBE,
        "the size tells: 32 octets are a point, 34 one in an OCTET STRING",
    ),
    KnownQuirk(
        Quirk.BARE_PUBLIC_TEMPLATE,
        "tpm2-pkcs11 1.9",
        _TPM,
        "CKR_GENERAL_ERROR for CKA_VERIFY without CKA_ENCRYPT, and the other way round",
        Handling.TABLE,
        "the template of the public key leaves them out",
    ),
    KnownQuirk(
        Quirk.GENERATION_LEAKS,
        "tpm2-pkcs11 1.9",
        _TPM,
        "after some 25 failures everything answers CKR_GENERAL_ERROR until C_Finalize",
        Handling.ALWAYS,
        "no key is generated only to try; what the list of mechanisms rules out is refused before",
    ),
    KnownQuirk(
        Quirk.RAW_RSA_DECRYPTS,
        "tpm2-pkcs11 1.9",
        _TPM,
        "it pads on the host and asks the TPM to decrypt, which refuses: CKR_GENERAL_ERROR from C_Sign",
        Handling.TABLE,
        "the token hashes, with CKM_SHA256_RSA_PKCS and its like",
    ),
    KnownQuirk(
        Quirk.ECDSA_SIZES,
        "tpm2-pkcs11 1.9",
        _TPM,
        "it takes the hash from the size; CKR_GENERAL_ERROR from C_Sign for SHA-224",
        Handling.TABLE,
        "other sizes are refused before",
    ),
    KnownQuirk(
        Quirk.CUT_POINT,
        "tpm2-pkcs11 1.9",
        _TPM,
        "the length of the OCTET STRING is written in one octet; signing fails as well",
        Handling.PROBE,
        "the key is refused, and deleted again, when its public half cannot be read",
    ),
    KnownQuirk(
        Quirk.SAME_SERIAL,
        "tpm2-pkcs11 1.9",
        _TPM,
        "0000000000000000",
        Handling.ALWAYS,
        "tokens are told apart by label, model and manufacturer, too",
    ),
    KnownQuirk(
        Quirk.PADDED_WRAP_NUMBER,
        "SoftHSM 2.6",
        _SOFTHSM,
        "it lacks CKM_AES_KEY_WRAP_KWP of PKCS#11 3.0, and does RFC 5649 under the older number",
        Handling.PROBE,
        "both numbers are tried, and the one that worked is remembered",
    ),
    KnownQuirk(
        Quirk.DERIVES_TAIL,
        "SoftHSM 2.6",
        _SOFTHSM,
        "an AES-256 key derived with P-384 is the last 32 octets of the secret",
        Handling.ALWAYS,
        "the whole secret is derived as a generic one, and the host derives the key from it",
    ),
    KnownQuirk(
        Quirk.DERIVES_TAIL,
        "NSS 3.131",
        _NSS,
        "an AES-256 key derived with P-384 is the last 32 octets of the secret",
        Handling.ALWAYS,
        "the whole secret is derived as a generic one, and the host derives the key from it",
    ),
    KnownQuirk(
        Quirk.DERIVES_HEAD,
        "opencryptoki 3.27",
        _OPENCRYPTOKI,
        "an AES-256 key derived with P-384 is the first 32 octets of the secret",
        Handling.ALWAYS,
        "the whole secret is derived as a generic one, and the host derives the key from it",
    ),
    KnownQuirk(
        Quirk.UNWRAP_DECIDES,
        "opencryptoki 3.27",
        _OPENCRYPTOKI,
        "CKR_ATTRIBUTE_READ_ONLY for a template with them; without them the result can be read",
        Handling.PROBE,
        "the ways to unwrap are tried one after the other, and the one that worked is remembered",
    ),
    KnownQuirk(
        Quirk.OAEP_TRIAL_COSTS,
        "OpenSC 0.23",
        _OPENSC,
        "a card needs up to a second for each; OpenSC removes the padding itself, for every hash and label",
        Handling.TABLE,
        "OAEP is not tried before it is used",
    ),
    KnownQuirk(
        Quirk.LOCK_STAYS_TAKEN,
        "OpenSC 0.23",
        _OPENSC,
        "initialised with CKF_OS_LOCKING_OK, it waits for ever in the next C_GetTokenInfo",
        Handling.TABLE,
        "it is initialised without locking, and one thread at a time is let in",
    ),
    KnownQuirk(
        Quirk.NOTICES_LATE,
        "OpenSC 0.23",
        _OPENSC,
        "the operation answers CKR_GENERAL_ERROR, as it never does for a wrong padding; pcscd looks for the "
        "card every 0.4 s",
        Handling.TABLE,
        "after that answer it is asked for half a second whether the card is there",
    ),
    KnownQuirk(
        Quirk.NEVER_LOCKS,
        "SoftHSM 2.6",
        _SOFTHSM,
        "CKF_USER_PIN_COUNT_LOW after the first wrong PIN, and then nothing more",
        Handling.ALWAYS,
        "a wrong PIN is tried once all the same",
    ),
    KnownQuirk(
        Quirk.NO_PIN_COUNTER,
        "NSS 3.131",
        _NSS,
        "the flags stay as they are",
        Handling.ALWAYS,
        "a wrong PIN is tried once all the same",
    ),
    KnownQuirk(
        Quirk.NO_PIN_COUNTER,
        "tpm2-pkcs11 1.9",
        _TPM,
        "CKR_PIN_LOCKED after the third wrong PIN, and no flag before it",
        Handling.ALWAYS,
        "a wrong PIN is tried once all the same",
    ),
    KnownQuirk(
        Quirk.EACH_TIME_IGNORED,
        "NSS 3.131",
        _NSS,
        "it keeps CKA_ALWAYS_AUTHENTICATE, and answers CKR_USER_ALREADY_LOGGED_IN to the PIN",
        Handling.ALWAYS,
        "the operation goes on; the PIN is asked for all the same",
    ),
    KnownQuirk(
        Quirk.SEPARATE_FUNCTION_LISTS,
        "p11-kit 0.24",
        _P11_KIT,
        "each call of C_GetFunctionList gives functions with a C_Initialize and sessions of their own",
        Handling.ALWAYS,
        "the list that python-pkcs11 has is used for all calls",
    ),
)
"""All that are known."""


def quirks_of(module: Module, token: TokenInfo) -> tuple[KnownQuirk, ...]:
    """What is known of a token's module.

    Args:
        module: The module.
        token: The token, whose own words are heard also behind p11-kit.
    """
    return tuple(known for known in QUIRKS if known.fits(token, module))


def has_quirk(quirk: Quirk, module: Module, token: TokenInfo) -> bool:
    """Whether a token's module is known for a quirk."""
    return any(known.quirk is quirk and known.fits(token, module) for known in QUIRKS)


def maker_has_quirk(quirk: Quirk, library_manufacturer: str) -> bool:
    """Whether a module is known for a quirk, before any token is known.

    Args:
        quirk: One that is known by the module alone.
        library_manufacturer: What C_GetInfo tells.
    """
    return any(
        known.quirk is quirk and library_manufacturer.startswith(known.where["library_manufacturer"])
        for known in QUIRKS
    )


def denies_local(token: TokenInfo) -> bool:
    """Whether a token's CKA_LOCAL tells nothing; see `Quirk.LOCAL_DENIED`."""
    return any(known.quirk is Quirk.LOCAL_DENIED and known.fits(token) for known in QUIRKS)
