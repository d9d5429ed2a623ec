"""Enrolment: an API key or a join token becomes an identity, whatever happens in between.

The keys and requests are on disk before anything is spent. When the answer is lost, the next
attempt sends the same requests and gets the same certificates.
"""

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure.keyservice.v1 import certificates_pb2, certificates_pb2_grpc
from finsecure_crypto.certificates import Purpose, SpiffeId, TrustAnchors, verify_certificate
from finsecure_crypto.errors import (
    AuthenticationError,
    ConfigurationError,
    ConflictError,
)
from finsecure_crypto.secret import SecretBytes
from finsecure_crypto.signing import SigningKey

from finsecure_rpc.admission import Admission, JoinAs
from finsecure_rpc.authenticator import utc_now
from finsecure_rpc.call import call
from finsecure_rpc.channel import OnSend, open_anonymous_channel
from finsecure_rpc.durable import sync_folder, write_file
from finsecure_rpc.identity_store import Credentials, Identity, IdentityStore
from finsecure_rpc.requests import NewKeys, new_keys

_Answer = certificates_pb2.EnrolResponse | certificates_pb2.JoinResponse


async def enrol(
    address: str,
    root_pem: bytes,
    admission: Admission,
    folder: Path,
    *,
    deadline_s: float = 30.0,
    on_send: OnSend | None = None,
) -> Identity:
    """Spend an API key, or a use of a join token, and write the identity folder.

    Args:
        address: the key service's listener for enrolment, `host:port`.
        root_pem: root certificate as given out of band; only it is believed.
        admission: what lets in.
        folder: identity folder; must not hold an identity yet.
        deadline_s: for the call.
        on_send: sees the outgoing message first; what lets in is in it.

    Raises:
        ConflictError: IDENTITY_EXISTS when the folder holds an identity already.
        ConfigurationError: ROOT_INVALID when `root_pem` is not a root of this kind.
        FinSecureError: what the key service answered, or that it cannot be reached.
    """
    store = IdentityStore(folder)
    if store.exists():
        raise ConflictError(
            "IDENTITY_EXISTS",
            f"{folder} holds an identity already: it renews itself. To enrol anew, move the "
            "folder away first.",
        )
    roots = pinned_roots(root_pem)
    keys = _pending_keys(folder / "pending")
    async with open_anonymous_channel(address, root_pem, on_send=on_send) as channel:
        stub = certificates_pb2_grpc.EnrolmentServiceStub(channel)
        ask, request = _request(stub, admission, keys)
        response: _Answer = await call(ask, request, deadline_s=deadline_s, address=address)
    member = {
        "name": response.member.name,
        "display_name": response.member.display_name,
        "spiffe_id": response.member.spiffe_id,
    }
    issued = response.certificates
    anchors = TrustAnchors(roots, tuple(issued.trust_bundle.intermediates))
    credentials = accept(keys, issued, anchors, member, utc_now())
    if isinstance(admission, JoinAs):
        _require_id(SpiffeId.parse(response.member.spiffe_id), admission.member_id)
    identity = store.save(credentials)
    shutil.rmtree(folder / "pending")
    return identity


def _request(
    stub: Any, admission: Admission, keys: NewKeys
) -> tuple[Any, certificates_pb2.EnrolRequest | certificates_pb2.JoinRequest]:
    """The method that an admission needs, and its request."""
    requests = {"tls_csr": keys.tls_csr, "signing_csr": keys.signing_csr}
    if isinstance(admission, JoinAs):
        return stub.Join, certificates_pb2.JoinRequest(
            join_token=admission.token.expose().decode("ascii", "replace"),
            member_id=admission.member_id,
            **requests,
        )
    return stub.Enrol, certificates_pb2.EnrolRequest(
        api_key=admission.expose().decode("ascii", "replace"), **requests
    )


def _require_id(found: SpiffeId, wanted: str) -> None:
    if found.id != wanted:
        raise AuthenticationError(
            "IDENTITY_MISMATCH",
            f"The key service issued certificates of {found} to who asked to be {wanted}.",
        )


def read_root(path: Path) -> bytes:
    """Read the file of the root certificate that was given out of band.

    Raises:
        ConfigurationError: ROOT_MISSING; the owner's.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "ROOT_MISSING",
            f"the root certificate {path} cannot be read ({error.strerror}); put the one there "
            "that the key service's operator gave you",
        ) from error


def pinned_roots(root_pem: bytes) -> tuple[bytes, ...]:
    """Read the root certificates that were given out of band.

    Raises:
        ConfigurationError: ROOT_INVALID; the fault of whoever supplied the file.
    """
    try:
        roots = tuple(
            root.public_bytes(Encoding.DER) for root in x509.load_pem_x509_certificates(root_pem)
        )
        TrustAnchors(roots, ())
    except (ValueError, AuthenticationError) as error:
        raise ConfigurationError(
            "ROOT_INVALID",
            "The root file is not the root certificate of a key service: take the root.pem that "
            f"the operator gave you ({error}).",
        ) from error
    return roots


def accept(
    keys: NewKeys,
    issued: certificates_pb2.IssuedCertificates,
    anchors: TrustAnchors,
    member: dict[str, str],
    now: datetime,
) -> Credentials:
    """Check what the key service issued against who is believed, our keys and one another.

    Raises:
        AuthenticationError: CERTIFICATE_* or IDENTITY_MISMATCH; the key service's fault.
    """
    tls = verify_certificate(issued.tls_certificate, anchors, None, now, Purpose.TLS)
    signing = verify_certificate(issued.signing_certificate, anchors, None, now, Purpose.SIGNING)
    expected = SpiffeId.parse(member["spiffe_id"])
    if not tls.spiffe_id == signing.spiffe_id == expected:
        raise AuthenticationError(
            "IDENTITY_MISMATCH", f"The key service issued certificates that are not {expected}'s."
        )
    return Credentials(
        tls_key_pem=keys.tls_key_pem,
        signing_key=keys.signing_key,
        tls_certificate=issued.tls_certificate,
        signing_certificate=issued.signing_certificate,
        anchors=anchors,
        member=member,
    )


def _pending_keys(folder: Path) -> NewKeys:
    """Read the keys of an attempt whose answer was lost, or make and keep new ones."""
    complete = folder / "complete"
    if complete.exists():
        return NewKeys(
            tls_key_pem=SecretBytes((folder / "tls.key").read_bytes()),
            tls_csr=(folder / "tls.csr").read_bytes(),
            signing_key=SigningKey.from_seed(SecretBytes((folder / "signing.seed").read_bytes())),
            signing_csr=(folder / "signing.csr").read_bytes(),
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.chmod(0o700)
    folder.mkdir(mode=0o700)
    keys = new_keys()
    write_file(folder / "tls.key", keys.tls_key_pem.expose())
    write_file(folder / "tls.csr", keys.tls_csr)
    write_file(folder / "signing.seed", keys.signing_key.seed.expose())
    write_file(folder / "signing.csr", keys.signing_csr)
    write_file(complete, json.dumps({"made": utc_now().isoformat()}).encode())
    sync_folder(folder.parent)
    return keys
