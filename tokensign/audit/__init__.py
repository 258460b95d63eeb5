"""The audit log of the signing service: a hash tree (RFC 6962) that a key on a token vouches for.

- `leaves`: what an entry is: one JSON object in canonical form (RFC 8785).
- `tree`, `proofs`: the hashes; that a leaf is in a tree, and that a tree only grew.
- `log`: the tree in a database; whoever appends does so in the transaction of what is recorded.
- `checkpoint`: size and root of the tree, in the text of C2SP tlog-checkpoint, signed in CMS.
- `verifying`: that nothing was changed, taken out or forked; `export`: a copy to keep elsewhere.
"""
