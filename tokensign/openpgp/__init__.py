"""OpenPGP (RFC 9580) with keys on tokens, for correspondents who have no S/MIME.

- `numbers`: the algorithm numbers of OpenPGP, and what they stand for here.
- `packets`: the framing of packets, read and written as streams; `armor`: ASCII armor.
- `public_key`: public-key packets of version 4, and their fingerprints.
- `signature`: signature packets; `certificate`: a transferable public key made of them.
- `session_key`: public-key encrypted session keys; `encrypted_data`: what they encrypt;
  `message`: what is inside of that; `decrypt`: all of them together.

It stands beside `tokensign.cms` and knows of keys what `tokensign.keys` says. What it does not do: verify
signatures, encrypt, and keep a keyring; `gpg` and `sq` do that with public keys alone.

It is written by hand because no maintained library leaves the private-key operation to its caller: PySequoia
makes its signers from secret keys only, PGPy has had no release since 2022, and python-gnupg runs gpg, which
reaches tokens through its own card daemon.
"""
