"""PINs, and where they come from.

A `Pin` never shows its value unless told to, and is overwritten when it is no longer needed. A `PinSource`
gives one when it is needed and not before; `parse_pin_source` makes one from a specification such as
"env:NAME". One module a source: `prompt`, `environment`, `files` (also systemd credentials and descriptors),
`keyring`, `pinentry` (which speaks `assuan`) and `pad`.
"""

from tokensign.token.pin.environment import EnvironmentSource
from tokensign.token.pin.files import CredentialSource, DescriptorSource, FileSource
from tokensign.token.pin.keyring import KeyringSource
from tokensign.token.pin.pad import PadSource
from tokensign.token.pin.pinentry import PinentrySource, confirm
from tokensign.token.pin.prompt import PromptSource
from tokensign.token.pin.source import InteractiveSource, PinRequest, PinSource, asked
from tokensign.token.pin.specification import default_source, parse_pin_source, pin_source_of
from tokensign.token.pin.value import Pin

__all__ = [
    "CredentialSource",
    "DescriptorSource",
    "EnvironmentSource",
    "FileSource",
    "InteractiveSource",
    "KeyringSource",
    "PadSource",
    "Pin",
    "PinRequest",
    "PinSource",
    "PinentrySource",
    "PromptSource",
    "asked",
    "confirm",
    "default_source",
    "parse_pin_source",
    "pin_source_of",
]
