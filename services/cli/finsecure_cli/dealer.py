"""The dealer of a Paillier key: offline, with files going in and coming out.

The dealer has the whole secret key for a moment. Whoever runs it has to be believed not to keep
it, and Python cannot erase memory for certain: run it on a machine that has no network and is
switched off afterwards. A share leaves sealed to its trustee's certified key.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from finsecure_crypto import sealing
from finsecure_crypto.certificates import (
    RevocationList,
    Role,
    SpiffeId,
    TrustAnchors,
    verify_member,
)
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.homomorphic import registry
from finsecure_crypto.homomorphic.ceremony import TrusteeCard, dealt_share_context
from finsecure_crypto.homomorphic.mode import Mode

_MOST_FILE_BYTES = 16 << 20


@dataclass(frozen=True)
class Cards:
    """What the dealer takes along.

    Attributes:
        trust_domain: of the federation.
        intermediates: authorities below the root, DER.
        revocation_list: the newest one, DER.
        cards: of all trustees, in the order of their share numbers.
    """

    trust_domain: str
    intermediates: tuple[bytes, ...]
    revocation_list: bytes
    cards: tuple[TrusteeCard, ...]

    def verify(self, root_pem: bytes, now: datetime) -> None:
        """Check all cards against the root that the dealer was given on a trusted way.

        Raises:
            AuthenticationError: a certificate does not hold, or the list is stale.
            ProtocolViolationError: CARD_UNSIGNED.
        """
        roots = tuple(
            certificate.public_bytes(Encoding.DER)
            for certificate in x509.load_pem_x509_certificates(root_pem)
        )
        anchors = TrustAnchors(roots, self.intermediates)
        revocations = RevocationList.parse(self.revocation_list, anchors, now)

        def public_key_of(trustee: str, certificate: bytes) -> bytes:
            member = SpiffeId(self.trust_domain, Role.TRUSTEE, trustee)
            return verify_member(certificate, anchors, revocations, now, member)

        for card in self.cards:
            card.verify(public_key_of)

    def write(self, path: Path) -> None:
        """Write the file that is carried to the dealer's machine."""
        _write(
            path,
            {
                "trust_domain": self.trust_domain,
                "intermediates": [_text(der) for der in self.intermediates],
                "revocation_list": _text(self.revocation_list),
                "trustees": [
                    {
                        "trustee": card.trustee,
                        "sealing_key": _text(card.sealing_key),
                        "signature": _text(card.signature),
                        "certificate": _text(card.certificate),
                    }
                    for card in self.cards
                ],
            },
        )

    @classmethod
    def read(cls, path: Path) -> "Cards":
        """Read the file.

        Raises:
            ConfigurationError: CEREMONY_FILE_DAMAGED.
        """
        with _reading(path) as content:
            return cls(
                str(content["trust_domain"]),
                tuple(map(_bytes, content["intermediates"])),
                _bytes(content["revocation_list"]),
                tuple(
                    TrusteeCard(
                        str(item["trustee"]),
                        _bytes(item["sealing_key"]),
                        _bytes(item["signature"]),
                        _bytes(item["certificate"]),
                    )
                    for item in content["trustees"]
                ),
            )


@dataclass(frozen=True)
class SealedShare:
    """A share on its way.

    Attributes:
        trustee: id of the receiver.
        sealed: the share, sealed to it.
    """

    trustee: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True)
class DealtKey:
    """What the dealer leaves behind.

    Attributes:
        key_name: resource name of the key.
        mode: the scheme.
        threshold: trustees that open a sum.
        public_key: canonical public key.
        shares: in the order of their numbers.
    """

    key_name: str
    mode: Mode
    threshold: int
    public_key: bytes = field(repr=False)
    shares: tuple[SealedShare, ...]

    def write(self, path: Path) -> None:
        """Write the file that is carried back."""
        _write(
            path,
            {
                "encryption_key": self.key_name,
                "mode": self.mode.value,
                "generation": "dealer",
                "threshold": self.threshold,
                "public_key": _text(self.public_key),
                "shares": [
                    {"trustee": share.trustee, "sealed_share": _text(share.sealed)}
                    for share in self.shares
                ],
            },
        )

    @classmethod
    def read(cls, path: Path) -> "DealtKey":
        """Read the file.

        Raises:
            ConfigurationError: CEREMONY_FILE_DAMAGED.
        """
        with _reading(path) as content:
            return cls(
                str(content["encryption_key"]),
                Mode(content["mode"]),
                int(content["threshold"]),
                _bytes(content["public_key"]),
                tuple(
                    SealedShare(str(item["trustee"]), _bytes(item["sealed_share"]))
                    for item in content["shares"]
                ),
            )


def deal(key_name: str, bits: int, threshold: int, cards: Cards) -> DealtKey:
    """Make a Paillier key and seal each share to its trustee; it takes seconds to a minute.

    Args:
        key_name: resource name of the key.
        bits: of the modulus, 2048 or 3072.
        threshold: trustees that open a sum.
        cards: verified.

    Raises:
        InvalidArgumentError: KEY_SIZE or SHARE_THRESHOLD; the caller's.
        ConfigurationError: EXTRA_MISSING.
    """
    registry.require(Mode.PAILLIER)
    # Imported where it is used: GMP is an extra.
    from finsecure_crypto.homomorphic.paillier import dealer

    dealt = dealer.deal(bits, len(cards.cards), threshold)
    digest = dealt.key.digest()
    shares = tuple(
        SealedShare(
            card.trustee,
            sealing.seal(
                card.sealing_key,
                share.serialise(),
                dealt_share_context(key_name, digest, share.holder, card.trustee),
            ),
        )
        for share, card in zip(dealt.shares, cards.cards, strict=True)
    )
    return DealtKey(key_name, Mode.PAILLIER, threshold, dealt.key.serialise(), shares)


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """Read a JSON file, and say so when it is not one that this program wrote."""
    try:
        with path.open("rb") as file:
            yield json.loads(file.read(_MOST_FILE_BYTES))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            "CEREMONY_FILE_DAMAGED",
            f"{path} is not a file of a ceremony, or was damaged on its way; carry it again",
        ) from error


def _write(path: Path, content: Mapping[str, object]) -> None:
    with path.open("x") as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
