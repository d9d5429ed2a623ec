"""A driver process of a load run: some of the clients, all on one event loop.

`python -m benchmarks.load_driver ORDER` reads what to do from a JSON file. It reports counts as
JSON lines on standard output, starts held uploads when it reads a line from standard input, and
leaves the plain sum and a summary beside the order.
"""

import asyncio
import json
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificate

from benchmarks.load_client import MOMENTS, LoadClient, Shared, issue
from tests.support.pki import Authority, TestAuthority

_REPORT_S = 0.25
_OPENINGS_AT_ONCE = 64


@dataclass(frozen=True)
class Order:
    """What one driver process has to do.

    Attributes:
        address: of the aggregator.
        task: resource name.
        first: number of its first client.
        clients: how many it drives.
        killed: how many of them are killed, each at a random moment.
        slots: vectors in memory at a time.
        hold: keep all masked vectors ready until told to upload.
        authority: folder that `save_authority` has written.
    """

    address: str
    task: str
    first: int
    clients: int
    killed: int
    slots: int
    hold: bool
    authority: str

    def write(self, path: Path) -> None:
        """Writes the order."""
        path.write_text(json.dumps(asdict(self)))


def save_authority(pki: TestAuthority, folder: Path) -> None:
    """Keeps a run's certificate authority for its driver processes."""
    for name, authority in (("root", pki.root), ("issuing", pki.intermediate)):
        (folder / f"{name}.crt").write_bytes(authority.pem)
        pem = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.key").write_bytes(pem)


def load_authority(folder: Path, domain: str) -> TestAuthority:
    """Reads what `save_authority` has written."""
    pki = TestAuthority(domain)
    loaded = []
    for name in ("root", "issuing"):
        key = load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        certificate = load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        loaded.append(Authority(key, certificate))
    pki.root, pki.intermediate = loaded
    return pki


async def drive(order: Order, folder: Path) -> None:
    """Runs the clients until the round is over for all of them."""
    pki = load_authority(Path(order.authority), "finsecure.internal")
    shared = Shared(pki, pki.anchors, asyncio.Semaphore(order.slots), asyncio.Event())
    if not order.hold:
        shared.hold.set()
    reporting = asyncio.create_task(_report(shared))
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _go, shared)
    clients = []
    victims = dict.fromkeys(random.sample(range(order.clients), order.killed))
    for victim in victims:
        victims[victim] = random.choice(MOMENTS)
    opening = asyncio.Semaphore(_OPENINGS_AT_ONCE)

    async def live(client: LoadClient) -> None:
        async with opening:
            await asyncio.wait_for(client.connection.channel().channel_ready(), 300)
            shared.counts["connected"] += 1
        await client.take_part()

    async with asyncio.TaskGroup() as running:
        for number in range(order.clients):
            name = f"bank-{order.first + number:05d}"
            client = LoadClient(
                name,
                issue(pki, shared.anchors, name),
                order.address,
                order.task,
                shared,
                victims.get(number),
            )
            clients.append(client)
            running.create_task(live(client))
            shared.counts["issued"] += 1
            await asyncio.sleep(0)
    reporting.cancel()
    if shared.total is not None:
        np.save(folder / f"sum-{order.first}.npy", shared.total)
    stayed = [client for number, client in enumerate(clients) if number not in victims]
    summary = {
        "accepted": shared.accepted,
        "sent": [client.sent for client in stayed],
        "received": [client.received for client in stayed],
        "repeated": shared.counts["repeated"],
    }
    (folder / f"summary-{order.first}.json").write_text(json.dumps(summary))
    _say(shared)


def _say(shared: Shared) -> None:
    print(json.dumps(shared.counts), flush=True)


async def _report(shared: Shared) -> None:
    while True:
        _say(shared)
        await asyncio.sleep(_REPORT_S)


def _go(shared: Shared) -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    shared.hold.set()


if __name__ == "__main__":
    PATH = Path(sys.argv[1])
    asyncio.run(drive(Order(**json.loads(PATH.read_text())), PATH.parent))
