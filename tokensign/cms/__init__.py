"""The Cryptographic Message Syntax (RFC 5652), built on the host with keys that stay on a token.

Writing: `signed` makes SignedData, `enveloped` EnvelopedData and AuthEnvelopedData.
Reading: `verify` checks the integrity of SignedData and leaves trust to `tokensign.pki`; `decrypt` opens
envelopes. `signed_data` and `recipients` are the structures both share, `attributes` the signed
attributes, `signature` the public-key operations, `ber` and `content_info` the encoding, `pem` the armor.

Everything streams: content is hashed, copied, encrypted and decrypted in pieces and never held whole.
The package knows private keys only as the protocols of `tokensign.keys`.
"""
