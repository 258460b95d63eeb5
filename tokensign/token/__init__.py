"""Keys and certificates on PKCS#11 tokens.

Open a token, make or find a key, use it::

    from tokensign.token import find_key, generate_key, open_key, open_token

    with open_token(token="acme", pin_source="file:/etc/acme.pin") as token:
        key = open_key(token, "alice", KeyUsage.SIGN)
        signature = key.sign(message, default_scheme(key.public_key))

`TokenKey` is a `Signer`, a `Decrypter`, a `KeyAgreement` and a `Decapsulator` of `tokensign.keys`, and
`TokenSecretKey`, an AES key, is a `KeyEncryptionKey`; nothing else of the package needs to know what a token
is. This is the only package that imports `pkcs11`.

What is promised:

- A private key never leaves its token. It is generated private, sensitive and not extractable, only for the
  uses that were asked for; nothing reads a secret attribute of one or wraps one; `check_key` proves how a key
  is protected. Read is what decrypts a single message: an unwrapped key, a secret agreed on.
- A PIN is asked for when it is needed, and tried once. The last try before a lock is refused unless allowed.
  It is in no message, repr or log.
- Everything is safe for threads: each operation has a PKCS#11 session for itself. The login is shared by the
  whole process, as PKCS#11 has it. Processes are spawned, not forked, once a module is loaded; a forked
  one is refused with `ModuleError`.
- A token that went away gives `TokenRemovedError`, and works again when it is back. Where its module must be
  initialised anew for that (SoftHSM), sessions that other code of the process opened on it end.
- What a module answers becomes the errors of `tokensign.errors`, each with what to do next.

The modules, from the bottom: `cryptoki` (direct calls), `failures` (what they mean), `deadlines` and `gate`
(who is inside the module), `turns` (other processes), `info`, `quirks` (what is known of modules), `state`,
`module`, `pin`, `tries` and `login` (the PIN discipline), `session`, `borrowing` and `connection` (sessions,
recovery), `opening`, `administration`; then `attributes`, `public_key`, `objects`, `choosing`, `protection`,
`attestation`, `generation`, `importing`, `key_import`, `retirement`, `deletion`; then `mechanisms`, `pss`,
`oaep`, `shared_secret` (the operations), `capabilities` (what a token can do) and `trials`; then
`key_access`, `signing`, `decryption`, `private_key`, `secret_key`. `lane` is the worker process of the
signing service; `hardening` keeps the memory of a process that has a PIN away from others and out of files.
"""

from tokensign.token.administration import change_pin, change_so_pin, initialize_token, unblock_pin
from tokensign.token.attestation import protection_statement
from tokensign.token.capabilities import Ability, Capabilities, capabilities
from tokensign.token.choosing import (
    find_certificate,
    find_certificates,
    find_key,
    find_private_or_secret_key,
    find_secret_key,
)
from tokensign.token.deletion import delete_certificate, delete_key
from tokensign.token.generation import generate_key
from tokensign.token.importing import import_certificate
from tokensign.token.info import MechanismInfo, PinState, TokenInfo
from tokensign.token.key_import import import_key
from tokensign.token.module import Module, find_module, load_module, modules_in_usual_places
from tokensign.token.objects import (
    KeyInfo,
    StoredCertificate,
    list_certificates,
    list_keys,
    list_secret_keys,
)
from tokensign.token.opening import Token, open_token, select_token
from tokensign.token.pin import InteractiveSource, Pin, PinRequest, PinSource, PromptSource, parse_pin_source
from tokensign.token.private_key import TokenKey, open_decrypters, open_key
from tokensign.token.protection import Finding, ProtectionReport, Verdict, check_key
from tokensign.token.quirks import KnownQuirk, Quirk
from tokensign.token.retirement import retire_key
from tokensign.token.secret_key import (
    TokenSecretKey,
    generate_secret_key,
    open_secret_key,
    open_secret_keys,
)
from tokensign.token.state import TokenState
from tokensign.token.trials import try_key, try_secret_key

__all__ = [
    "Ability",
    "Capabilities",
    "Finding",
    "InteractiveSource",
    "KeyInfo",
    "KnownQuirk",
    "MechanismInfo",
    "Module",
    "Pin",
    "PinRequest",
    "PinSource",
    "PinState",
    "PromptSource",
    "ProtectionReport",
    "Quirk",
    "StoredCertificate",
    "Token",
    "TokenInfo",
    "TokenKey",
    "TokenSecretKey",
    "TokenState",
    "Verdict",
    "capabilities",
    "change_pin",
    "change_so_pin",
    "check_key",
    "delete_certificate",
    "delete_key",
    "find_certificate",
    "find_certificates",
    "find_key",
    "find_module",
    "find_private_or_secret_key",
    "find_secret_key",
    "generate_key",
    "generate_secret_key",
    "import_certificate",
    "import_key",
    "initialize_token",
    "list_certificates",
    "list_keys",
    "list_secret_keys",
    "load_module",
    "modules_in_usual_places",
    "open_decrypters",
    "open_key",
    "open_secret_key",
    "open_secret_keys",
    "open_token",
    "parse_pin_source",
    "protection_statement",
    "retire_key",
    "select_token",
    "try_key",
    "try_secret_key",
    "unblock_pin",
]
