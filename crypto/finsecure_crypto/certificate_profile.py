"""What a certificate of the federation may say: names, purposes and extensions.

The issuing side takes its extensions from here and the verifying side compares with the same
rules, so the two cannot drift apart. Sources: RFC 5280, section 4.2; SPIFFE-ID, section 2;
X509-SVID, sections 2 to 4.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from finsecure_crypto.errors import AuthenticationError, InvalidArgumentError

MAXIMUM_DER = 8192
"""Most bytes of a certificate or request."""

SIGNING_USAGE = x509.ObjectIdentifier("2.25.36361306598840412259832513074149709613.1")
"""Extended key usage of keys that sign protocol messages and models. The arc below 2.25 is made
from a random UUID (ITU-T X.667), so it needs no registration and cannot collide."""

_ID = r"[a-z][a-z0-9-]{0,38}[a-z0-9]"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_AUTHORITY = re.compile(rf"spiffe://({_DOMAIN})")

Extensions = list[tuple[x509.ExtensionType, bool]]
LeafKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Role(Enum):
    """What an identity is.

    People who administer are of three roles: a viewer reads, an operator also changes, and a
    security officer also takes part in acts that need two persons.
    """

    CLIENT = "client"
    AGGREGATOR = "aggregator"
    TRUSTEE = "trustee"
    VIEWER = "viewer"
    OPERATOR = "operator"
    OFFICER = "officer"
    KEYSERVICE = "keyservice"

    @property
    def serves(self) -> bool:
        """Whether others connect to it, so that its TLS certificate has a server name."""
        return self in (Role.AGGREGATOR, Role.TRUSTEE, Role.KEYSERVICE)

    @property
    def federated(self) -> bool:
        """Whether it lives in a federation, rather than in the domain above all federations."""
        return self in (Role.CLIENT, Role.AGGREGATOR, Role.TRUSTEE)


_SPIFFE = re.compile(rf"spiffe://({_DOMAIN})/({'|'.join(role.value for role in Role)})/({_ID})")


class Purpose(Enum):
    """What a key does; no key serves two purposes."""

    TLS = "tls"
    SIGNING = "signing"


@dataclass(frozen=True)
class SpiffeId:
    """A name `spiffe://<trust domain>/<role>/<id>`.

    Raises:
        InvalidArgumentError: SPIFFE_ID_INVALID when a part is not in the one accepted spelling:
            lower case, no port, no query, no percent-encoding, no dots in the path.
    """

    trust_domain: str
    role: Role
    id: str

    def __post_init__(self) -> None:
        text = str(self)
        if len(self.trust_domain) > 253 or _SPIFFE.fullmatch(text) is None:
            raise InvalidArgumentError("SPIFFE_ID_INVALID", f"{text[:100]!r} is not a SPIFFE ID.")

    @classmethod
    def parse(cls, text: str) -> "SpiffeId":
        """Read the one accepted spelling; everything else is SPIFFE_ID_INVALID."""
        match = _SPIFFE.fullmatch(text)
        if match is None:
            raise InvalidArgumentError("SPIFFE_ID_INVALID", f"{text[:100]!r} is not a SPIFFE ID.")
        return cls(match[1], Role(match[2]), match[3])

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{self.role.value}/{self.id}"

    @property
    def server_name(self) -> str:
        """DNS name that callers expect of a server with this role."""
        return f"{self.role.value}.{self.trust_domain}"


def _key_usage(*, digital_signature: bool, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def leaf_extensions(spiffe_id: SpiffeId, purpose: Purpose) -> Extensions:
    """Extensions of a member's certificate, each with whether it is critical."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(spiffe_id))]
    usages = [SIGNING_USAGE]
    if purpose is Purpose.TLS:
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if spiffe_id.role.serves:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            names.append(x509.DNSName(spiffe_id.server_name))
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(digital_signature=True, authority=False), True),
        (x509.ExtendedKeyUsage(usages), False),
        (x509.SubjectAlternativeName(names), False),
    ]


def authority_extensions(domain: str, path_length: int) -> Extensions:
    """Extensions of a root (`path_length` 1) or an intermediate (0) of a domain."""
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (_key_usage(digital_signature=False, authority=True), True),
        (
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{domain}")]),
            False,
        ),
    ]


def _malformed(message: str) -> AuthenticationError:
    return AuthenticationError("CERTIFICATE_MALFORMED", message)


def check_critical(
    extensions: x509.Extensions, known: Collection[x509.ObjectIdentifier], what: str
) -> None:
    """Refuse critical extensions that the profile does not read (RFC 5280, section 4.2)."""
    for extension in extensions:
        if extension.critical and extension.oid not in known:
            raise _malformed(f"The {what} has a critical extension {extension.oid.dotted_string}.")


_LEAF_EXTENSIONS = frozenset(
    {
        x509.BasicConstraints.oid,
        x509.KeyUsage.oid,
        x509.ExtendedKeyUsage.oid,
        x509.SubjectAlternativeName.oid,
    }
)


def authority_domain(certificate: x509.Certificate, *, root: bool) -> str:
    """Check the profile of a root or intermediate and return the domain it speaks for.

    Raises:
        AuthenticationError: CERTIFICATE_MALFORMED.
    """
    what = "root certificate" if root else "intermediate certificate"
    key = certificate.public_key()
    curves = (ec.SECP384R1, ec.SECP256R1)
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, curves)):
        raise _malformed(f"The {what} has no ECDSA key on P-256 or P-384.")
    extensions = certificate.extensions
    check_critical(extensions, _LEAF_EXTENSIONS - {x509.ExtendedKeyUsage.oid}, what)
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    depth = constraints.value.path_length
    deep_enough = depth is None or depth >= 1 if root else depth == 0
    if not (constraints.critical and constraints.value.ca and deep_enough):
        raise _malformed(f"The {what} has other basic constraints than the profile.")
    if not (usage.critical and usage.value.key_cert_sign and usage.value.crl_sign):
        raise _malformed(f"The {what} may not sign certificates and revocation lists.")
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    match = None
    if len(names) == 1:
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier) or [""]
        match = _AUTHORITY.fullmatch(uri)
    if match is None:
        raise _malformed(f"The {what} does not name its domain as one URI spiffe://<domain>.")
    return match[1]


def read_leaf(leaf: x509.Certificate, purpose: Purpose, domain: str) -> tuple[SpiffeId, LeafKey]:
    """Check the profile of a member's certificate and return its name and key.

    Raises:
        AuthenticationError: CERTIFICATE_MALFORMED, or CERTIFICATE_UNTRUSTED when its trust
            domain is not one of this domain's.
    """
    key = leaf.public_key()
    if purpose is Purpose.TLS:
        if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)):
            raise _malformed("A TLS certificate needs an ECDSA P-256 key.")
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        raise _malformed("A signing certificate needs an Ed25519 key.")
    check_critical(leaf.extensions, _LEAF_EXTENSIONS, "certificate")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise _malformed("The certificate does not have exactly one SPIFFE ID.")
    try:
        spiffe_id = SpiffeId.parse(uris[0])
    except InvalidArgumentError as error:
        raise _malformed("The certificate's URI is not a SPIFFE ID.") from error
    for expected, critical in leaf_extensions(spiffe_id, purpose):
        found = leaf.extensions.get_extension_for_class(type(expected))
        if found.value != expected or (critical and not found.critical):
            raise _malformed(f"The certificate's {found.oid._name} is not that of the profile.")
    trust_domain = spiffe_id.trust_domain
    if spiffe_id.role.federated:
        trust_domain = trust_domain.partition(".")[2]
    if trust_domain != domain:
        raise AuthenticationError(
            "CERTIFICATE_UNTRUSTED", f"{spiffe_id} does not belong to the domain {domain}."
        )
    return spiffe_id, key
