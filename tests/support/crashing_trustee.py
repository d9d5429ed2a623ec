"""A trustee that is killed on its way: `python -m tests.support.crashing_trustee FOLDER POINT`.

It finds a request in the folder, works on it like the service does, and sends SIGKILL to itself at
the point that it was told.
"""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from finsecure.keyservice.v1 import trustee_pb2 as wire
from finsecure_crypto.certificates import RevocationList, TrustAnchors
from finsecure_keyservice.audit.log import AuditLog
from finsecure_keyservice.trustee import convert, opening, store
from finsecure_rpc.identity_store import IdentityStore

from tests.support.pki import TestAuthority
from tests.support.trustee_wire import header, manifest
from tests.support.trustees import CALLER, Bank, make_trustee, pieces

POINTS = {
    "admitted": False,
    "added up": False,
    "computed": False,
    "deciding": False,
    "decided": True,
}
"""Points, and whether the sum counts as opened after a kill there."""


@dataclass
class Authorities:
    """What a trustee knows of an authority."""

    domain: str
    anchors: TrustAnchors
    crl: bytes

    def current(self) -> RevocationList:
        return RevocationList.parse(self.crl, self.anchors, datetime.now(UTC))


def leave(folder: Path, pki: TestAuthority, bank: Bank) -> None:
    """Put what the process needs into the folder."""
    contents = {
        "root.der": pki.root.der,
        "intermediate.der": pki.intermediate.der,
        "revoked.crl": pki.current().der,
        "header": header(bank).SerializeToString(),
        "manifest": manifest(bank).SerializeToString(),
        "stream": bank.stream,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def killed(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


async def killed_soon(*_: object) -> NoReturn:
    killed()


async def work(folder: Path, point: str) -> None:
    anchors = TrustAnchors(
        ((folder / "root.der").read_bytes(),), ((folder / "intermediate.der").read_bytes(),)
    )
    trustee = make_trustee(
        folder,
        Authorities(anchors.domain, anchors, (folder / "revoked.crl").read_bytes()),  # type: ignore[arg-type]
        1,
        identities=IdentityStore(folder / "identity"),  # nothing is signed here
    )
    request = convert.decryption_request(
        wire.DecryptionRequest.FromString((folder / "header").read_bytes())
    )
    said = convert.contributions(wire.ManifestPage.FromString((folder / "manifest").read_bytes()))
    openings = trustee.openings
    held = await openings.admit(CALLER, request, said)
    if point == "admitted":
        killed()
    if point == "added up":
        opening.partial_of = killed_soon  # type: ignore[assignment]
    if point == "computed":
        store.add_opening = killed  # type: ignore[assignment]
    if point == "deciding":
        AuditLog.append = killed  # type: ignore[method-assign]
    stream = (folder / "stream").read_bytes()
    await openings.open(CALLER, request, said, held, pieces(stream))
    killed()


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2]))
