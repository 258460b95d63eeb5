"""`tokensign timestamp`: requests, tokens, and signatures that get timestamps (RFC 3161, ETSI EN 319 122)."""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.command import PATH, Cli, Group
from tokensign.cli.forms import LEVELS, written_as
from tokensign.cli.inputs import MOMENT
from tokensign.cli.output import named
from tokensign.cli.timestamp_reply import reply
from tokensign.cli.trust import TrustOptions, require_dotted, trust_options
from tokensign.errors import MalformedError, MessageError, UsageError
from tokensign.files import STANDARD_STREAM, chunks, open_input, open_output, read_small

if TYPE_CHECKING:
    from tokensign.cades.extend import ExtensionMeans
    from tokensign.cades.levels import Level
    from tokensign.cms.timestamp import TimestampToken
    from tokensign.pki.validated_path import ValidatedPath

__all__ = ["extension_means", "timestamp"]


def extension_means(
    cli: Cli,
    level: Level,
    tsa: str | None,
    trusting: TrustOptions,
    *,
    digest: str | None = None,
    policy: str | None = None,
) -> ExtensionMeans:
    """What raising a signature to a level takes, from the options of a command.

    Args:
        cli: The common options.
        level: The level.
        tsa: The URL of the timestamp authority. The user named it, so it may be in a private network; where
            it redirects to is not followed.
        trusting: Whom to trust, which B-LT needs and B-T can do without.
        digest: The digest of the timestamps, or None: SHA-256.
        policy: The TSA policy that is asked for, dotted, or None.

    Raises:
        UsageError: There is no TSA, or nobody to trust.
    """
    from tokensign import algorithms
    from tokensign.cades.extend import ExtensionMeans
    from tokensign.cades.levels import Level
    from tokensign.cms.timestamp import TOKEN_SIZE_MAXIMUM
    from tokensign.pki.http import EVERYWHERE, HttpClient, Limits
    from tokensign.pki.purpose import Purpose
    from tokensign.pki.tsa_client import TimestampAuthority

    if tsa is None:
        raise UsageError(f"{level} needs a timestamp authority", hint="name it with --tsa URL")
    trust = None
    if level >= Level.B_LT or trusting.is_given(cli):
        trust = trusting.policy(cli, Purpose.ANY, "require" if level >= Level.B_LT else None)
    else:
        cli.output.status("nobody is named with --trust: it is not checked who issued the TSA's certificate")
    certificates = trusting.certificates(cli)
    limits = Limits(octets=TOKEN_SIZE_MAXIMUM, redirects=0, private_networks=EVERYWHERE)
    authority = TimestampAuthority(
        url=tsa,
        fetch=HttpClient(limits),
        trust=trust,
        digest=algorithms.digest(digest or "sha256"),
        policy=policy,
        certificates=certificates,
    )
    return ExtensionMeans(authority=authority, trust=trust, certificates=certificates)


@click.group(cls=Group)
def timestamp() -> None:
    """Prove when data existed, and make signatures outlive their certificates.

    \b
    Example:
      tokensign timestamp extend contract.pem --level b-lta --tsa http://tsa.example -o archived.p7m
    """


@timestamp.command()
@click.argument("source", metavar="FILE", type=PATH)
@click.option("-o", "--output", metavar="TSQ", type=PATH, required=True, help="Where the request goes.")
@click.option("--digest", metavar="NAME", default="sha256", show_default=True, help="Of FILE.")
@click.option("--policy", metavar="OID", help="The TSA policy that is asked for.")
@click.option("--no-nonce", is_flag=True, help="Leave the nonce out.")
@click.option("--no-certificate", is_flag=True, help="Do not ask for the TSA's certificate.")
@click.option("--force", is_flag=True, help="Replace TSQ if it exists.")
@click.pass_obj
def query(
    cli: Cli,
    source: str,
    output: str,
    digest: str,
    policy: str | None,
    no_nonce: bool,
    no_certificate: bool,
    force: bool,
) -> None:
    """Make a timestamp request for FILE.

    Send it to a timestamp authority with the media type application/timestamp-query.

    \b
    Example:
      tokensign timestamp query contract.pdf -o contract.tsq
    """
    from tokensign import algorithms
    from tokensign.cms.content_digests import ContentDigests
    from tokensign.cms.timestamp import TimestampRequest
    from tokensign.pki.tsa_client import NONCE_BITS

    if policy is not None:
        require_dotted(policy)
    chosen = algorithms.digest(digest)
    hashes = ContentDigests([chosen])
    with open_input(source) as content, cli.output.progress(content, f"hashing {source}") as watched:
        for piece in chunks(watched):
            hashes.update(piece)
    request = TimestampRequest(
        digest=chosen,
        hashed_message=hashes.values()[chosen.name],
        nonce=None if no_nonce else secrets.randbits(NONCE_BITS),
        policy=policy,
        wants_certificate=not no_certificate,
    )
    with open_output(output, force=force) as destination:
        destination.write(request.encode())
    cli.output.status(f"{named(output)}: a timestamp request for {source}")
    cli.output.document(
        {
            "output": output,
            "digest": chosen.name,
            "hashed_message": request.hashed_message.hex(),
            "nonce": None if request.nonce is None else f"{request.nonce:x}",
            "policy": policy,
        },
        on_stderr=output == STANDARD_STREAM,
    )


timestamp.add_command(reply)


@timestamp.command()
@click.argument("response", metavar="TSR", type=PATH)
@click.option("--data", metavar="FILE", type=PATH, required=True, help="What was timestamped.")
@click.option("--query", "request", metavar="TSQ", type=PATH, help="The request that TSR must answer.")
@click.option(
    "--at",
    "moment",
    type=MOMENT,
    metavar="TIME",
    help="The TSA's certificate must be valid at this time. [default: now]",
)
@click.option(
    "--revocation",
    type=click.Choice(["off", "prefer", "require"]),
    help="Whether certificates were revoked, as for `tokensign verify`.",
)
@trust_options
@click.pass_obj
def verify(
    cli: Cli,
    response: str,
    data: str,
    request: str | None,
    moment: datetime | None,
    revocation: str | None,
    trusting: TrustOptions,
) -> None:
    """Verify TSR: that FILE existed at its time.

    TSR is a timestamp response, or a bare token. Exit code 1: it does not hold.

    \b
    Example:
      tokensign timestamp verify contract.tsr --data contract.pdf --trust tsa-root.pem
    """
    from tokensign.cms.content_digests import ContentDigests
    from tokensign.cms.timestamp import TimestampRequest
    from tokensign.pki.purpose import Purpose
    from tokensign.pki.timestamping import Material, validate_timestamp

    policy = trusting.policy(cli, Purpose.TIME_STAMPING, revocation)
    token = _token(response)
    if request is not None:
        token.check_request(TimestampRequest.load(read_small(request)))
    hashes = ContentDigests([token.info.digest])
    with open_input(data) as content, cli.output.progress(content, f"verifying {data}") as watched:
        for piece in chunks(watched):
            hashes.update(piece)
    token.check_digest(hashes.values()[token.info.digest.name])
    material = Material(trusting.certificates(cli))
    path = validate_timestamp(token, policy, moment or datetime.now(UTC), material)
    _tell(cli, data, token, path)


def _token(file: str) -> TimestampToken:
    """The token in a file: in a response, or bare."""
    from tokensign.cms.timestamp import TimestampResponse, TimestampToken

    data = read_small(file)
    try:
        return TimestampToken.load(data)
    except MessageError as error:
        bare = error
    try:
        response = TimestampResponse.load(data)
    except MalformedError:
        raise bare from None
    if response.token is None:
        raise MalformedError(f"{file} holds no timestamp: {response.reason or response.status}")
    return TimestampToken.load(response.token)


def _tell(cli: Cli, data: str, token: TimestampToken, path: ValidatedPath) -> None:
    info = token.info
    document: dict[str, Any] = {
        "time": info.time.isoformat(),
        "accuracy_seconds": None if info.accuracy is None else info.accuracy.total_seconds(),
        "authority": path[0].subject,
        "serial_number": f"{info.serial_number:x}",
        "policy": info.policy,
        "digest": info.digest.name,
        "path": [entry.subject for entry in path],
    }
    cli.output.document(document)
    cli.output.text(f"{data} existed on {info.time:%Y-%m-%d at %H:%M:%S} UTC")
    cli.output.text(f"says {path[0].subject}, issued under {path[-1].subject}")


@timestamp.command()
@click.argument("signature", metavar="SIGNATURE", type=PATH)
@click.option("--level", type=LEVELS, required=True, help="The level of CAdES that it shall have.")
@click.option("--tsa", metavar="URL", required=True, help="The timestamp authority.")
@click.option("--content", metavar="FILE", type=PATH, help="What was signed, for a detached signature.")
@click.option("-o", "--output", metavar="OUT", type=PATH, required=True, help="Where the result goes.")
@click.option("--form", type=click.Choice(["der", "pem"]), default="der", show_default=True)
@click.option("--digest", metavar="NAME", default="sha256", show_default=True, help="Of the timestamps.")
@click.option("--tsa-policy", metavar="OID", help="The TSA policy that is asked for.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@trust_options
@click.pass_obj
def extend(
    cli: Cli,
    signature: str,
    level: str,
    tsa: str,
    content: str | None,
    output: str,
    form: str,
    digest: str,
    tsa_policy: str | None,
    force: bool,
    trusting: TrustOptions,
) -> None:
    """Raise SIGNATURE to a level that outlives its certificates.

    No key is needed. b-t adds a timestamp over the signature, b-lt the certificates and revocation
    information that are needed to validate it, b-lta a timestamp over all of that. A message that is b-lta
    already gets a further archive timestamp: renew it before the certificates of the last one expire.

    \b
    Example:
      tokensign timestamp extend contract.pem --level b-lta --tsa http://tsa.example -o archived.p7m
    """
    from tokensign.cades.extend import extend_signatures
    from tokensign.cades.levels import Level
    from tokensign.cms.signed_data import read_signed_data
    from tokensign.smime.unwrap import open_message

    if tsa_policy is not None:
        require_dotted(tsa_policy)
    wanted = Level(level)
    means = extension_means(cli, wanted, tsa, trusting, digest=digest, policy=tsa_policy)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_message(stack.enter_context(open_input(signature))))
        if opened.content is not None:
            raise UsageError(
                "a multipart/signed mail is not extended", hint="sign it with --level and --tsa at once"
            )
        message = read_signed_data(opened.cms)
        signed = stack.enter_context(open_input(content)) if content is not None else None
        destination = stack.enter_context(open_output(output, force=force))
        with written_as(form, destination) as result:
            extend_signatures(message, wanted, means, result, signed)
    cli.output.status(f"{named(output)}: raised to {wanted} with timestamps of {tsa}")
    cli.output.document(
        {"output": output, "form": form, "level": level, "tsa": tsa},
        on_stderr=output == STANDARD_STREAM,
    )
