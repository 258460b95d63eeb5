"""Drivers of the programs that tokensign exchanges messages with.

Each `Peer` (peer.py) signs, verifies, encrypts and decrypts with one real program: `OpenSsl`, `Gpgsm`,
`Nss` and `BouncyCastle`. Their keys and certificates come from an `Authority` (identities.py). What is
exchanged is told by a `Scheme`, or by an `Envelope` (schemes.py); `Peer.unknown` names what the program
cannot do, and why.
"""
