"""A key that three trustees made opens sums through the same checks as a dealt one."""

import hashlib
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from finsecure_crypto.encoding import CountSection, VectorLayout, rounding_generator
from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.homomorphic.ceremony import Ceremony, CeremonyMessage
from finsecure_crypto.homomorphic.decryption import (
    DecryptionRequest,
    EncryptedContext,
    manifest_digest,
)
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.registry import load_key
from finsecure_crypto.homomorphic.scheme import EncryptionKey
from finsecure_keyservice.trustee.schemes import LAST_STEP

from tests.support.trustees import (
    CLIENTS,
    DIGEST,
    FEDERATION,
    OPERATOR,
    SUM,
    VALUES,
    Bank,
    Federation,
    Trustee,
    make_trustee,
)

NAME = "federations/lending/encryptionKeys/made"
LAYOUT = VectorLayout((CountSection("amount", 3, 1000),), 10)


async def made_key(trustees: list[Trustee], mode: Mode) -> EncryptionKey:
    parts = [trustee.ceremonies() for trustee in trustees]
    ceremony = Ceremony(
        NAME, mode, DIGEST, tuple([await each.holdings.card(OPERATOR) for each in trustees])
    )
    messages: list[CeremonyMessage] = []
    for step in range(1, LAST_STEP + 1):
        answers = [await part.advance(OPERATOR, ceremony, step, messages) for part in parts]
        messages = [message for message, _ in answers if message is not None]
    held = answers[0][1]
    assert held is not None
    return load_key(mode, held.public_key)


def bank_of(federation: Federation, key: EncryptionKey) -> Bank:
    inputs = [
        b"".join(
            key.encrypt(
                LAYOUT,
                {"amount": np.array(VALUES[client], dtype=np.uint64)},
                rounding_generator(),
            )
        )
        for client in CLIENTS
    ]
    context = EncryptedContext(FEDERATION, SUM, NAME, key.digest(), 3, 10, LAYOUT.digest())
    manifest = [
        federation.contribution(context, client, data)
        for client, data in zip(CLIENTS, inputs, strict=True)
    ]
    total = reduce(key.add, inputs)
    request = DecryptionRequest(
        context,
        len(manifest),
        len(total),
        manifest_digest(manifest),
        hashlib.sha256(total).digest(),
    )
    return Bank(request, manifest, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [Mode.BGV, Mode.CKKS])
async def test_two_trustees_open_what_clients_encrypted_under_their_key(
    federation: Federation, tmp_path: Path, mode: Mode
) -> None:
    trustees = [make_trustee(tmp_path / f"t{n}", federation.pki, n) for n in (1, 2, 3)]
    key = await made_key(trustees, mode)
    bank = bank_of(federation, key)
    total = reduce(key.add, bank.inputs)
    partials = {trustee.holder: await trustee.open(bank) for trustee in trustees[1:]}
    sums = key.combine(LAYOUT, 3, total, partials, bank.request.digest())
    assert sums["amount"].round().tolist() == [111, 222, 333]
    broken = [b"\xff" * len(bank.inputs[0]), *bank.inputs[1:]]
    signed = federation.contribution(bank.request.context, CLIENTS[0], broken[0])
    manifest = [signed, *bank.manifest[1:]]
    request = DecryptionRequest(
        bank.request.context, 3, len(total), manifest_digest(manifest), DIGEST
    )
    with pytest.raises(FinSecureError) as caught:
        await trustees[0].open(Bank(request, manifest, broken))
    assert (caught.value.code, caught.value.culprit) == ("CIPHERTEXT_MALFORMED", CLIENTS[0])
    for trustee in trustees:
        trustee.database.close()
