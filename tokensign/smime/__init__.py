"""S/MIME (RFC 8551): CMS messages as MIME entities.

`canonical` makes line ends what is signed, `entity` finds the parts of a MIME entity over its raw bytes,
`compose` writes multipart/signed and application/pkcs7-mime, `unwrap` opens a file whatever form it has.
"""
