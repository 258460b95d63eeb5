"""The agent: a process that keeps the login on one token for one user, so that the PIN is asked for once.

Programs of the same user reach it over a Unix socket. They name a key and an operation, and get a signature,
an unwrapped key or a shared secret; neither a PIN nor a private key is ever on the socket. `docs/agent.md`
says against whom that protects and against whom not.

- `place`: where the socket lies, in a folder that only its owner can enter; one agent a place.
- `peer`: who is on the other end, as the kernel knows it.
- `protocol`: requests and answers as octets; `documents`: the keys in them.
- `custody`: the login, until when it lasts, lock and unlock; `confirmation`: a person who is asked each time.
- `operations`: what a request does; `server`: many connections at a time, each with limits.
- `client`: `AgentClient`, and the keys behind it: `AgentKey` is a `Signer`, `Decrypter`, `KeyAgreement` and
  `Decapsulator` of `tokensign.keys`, and `AgentSecretKey` a `KeyEncryptionKey`.
"""
