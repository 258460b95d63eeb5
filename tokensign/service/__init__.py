"""The signing service: tokens in one place, and many who may use their keys, each as far as they are allowed.

The story of a request: `server` takes the connection and hands the client's certificate over, `app` finds the
route, `routes` reads what is wanted, `operation` asks who it is, whether they may, and records that before a
lane signs and what came of it before anything leaves. `problems` tells what went wrong (RFC 9457),
`telemetry` what happened. `client` is the other end: a remote key that is used like a local one.

Nothing here loads a PKCS#11 module or sees a PIN; the processes behind `lanes` do.
"""
