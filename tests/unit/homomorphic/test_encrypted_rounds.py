"""The server's side of an encrypted round: whose input counts, and what each lie is called."""

from dataclasses import replace

import pytest
from finsecure_crypto.encoding import CountSection, VectorLayout
from finsecure_crypto.errors import AuthenticationError, Fault, FinSecureError
from finsecure_crypto.homomorphic.decryption import verify_contribution
from finsecure_crypto.homomorphic.rounds import (
    CollectEncryptedInputs,
    EncryptedRoundParameters,
    sign_input,
)
from finsecure_crypto.signing import SigningKey

CLIENTS = ("bank-a", "bank-b", "bank-c", "bank-d")
KEYS = {client: SigningKey.generate() for client in CLIENTS}
SIZE, PROOF = 64, 24


def make_parameters(**changes):
    fields = {
        "federation": "lending",
        "task": "credit",
        "round_number": 3,
        "attempt": 1,
        "attempt_nonce": bytes(32),
        "model_digest": b"m" * 32,
        "task_digest": b"t" * 32,
        "minimum_cohort": 2,
        "layout": VectorLayout((CountSection("values", 3, 9),), len(CLIENTS)),
        "key_name": "federations/lending/encryptionKeys/first",
        "key_digest": b"k" * 32,
    }
    return EncryptedRoundParameters(**(fields | changes))


PARAMETERS = make_parameters()


def header(client, parameters=PARAMETERS, size=SIZE, sha256=None):
    return sign_input(
        parameters.binding(),
        size,
        sha256 or client.encode().ljust(32, b"."),
        signing_key=KEYS[client],
        certificate=client.encode(),
    )


def key_of(client, certificate):
    if certificate != client.encode():
        raise AuthenticationError("CERTIFICATE_UNTRUSTED", "somebody else's")
    return KEYS[client].public


@pytest.fixture
def collector():
    return CollectEncryptedInputs(PARAMETERS, SIZE, PROOF, frozenset(CLIENTS[:3]), key_of)


def test_the_manifest_is_what_trustees_accept(collector):
    for client in ("bank-c", "bank-a"):
        assert collector.accept(client, header(client))
        assert not collector.accept(client, header(client))  # said before
    manifest = collector.close()
    assert [contribution.client for contribution in manifest] == ["bank-a", "bank-c"]
    for contribution in manifest:
        verify_contribution(PARAMETERS.binding(), contribution, SIZE, key_of)


@pytest.mark.parametrize(
    ("client", "said", "code"),
    [
        ("bank-a", header("bank-a", size=63), "WRONG_INPUT_SIZE"),
        ("bank-a", header("bank-a", size=SIZE - PROOF), "PLAINTEXT_PROOF_MISSING"),
        ("bank-a", header("bank-a", make_parameters(attempt=2)), "CONTRIBUTION_UNSIGNED"),
        (
            "bank-a",
            header("bank-a", make_parameters(model_digest=bytes(32))),
            "CONTRIBUTION_UNSIGNED",
        ),
        (
            "bank-a",
            header("bank-a", make_parameters(key_digest=bytes(32))),
            "CONTRIBUTION_UNSIGNED",
        ),
        ("bank-a", header("bank-a", make_parameters(minimum_cohort=3)), "CONTRIBUTION_UNSIGNED"),
        ("bank-a", replace(header("bank-a"), sha256=bytes(32)), "CONTRIBUTION_UNSIGNED"),
        ("bank-a", header("bank-b", sha256=b"x" * 32), "CERTIFICATE_UNTRUSTED"),
        ("bank-a", header("bank-a", sha256=b"bank-b".ljust(32, b".")), "CONTRIBUTION_REPEATED"),
        ("bank-b", header("bank-b", sha256=bytes(32)), "DUPLICATE_MESSAGE"),
        ("bank-d", header("bank-d"), "CLIENT_NOT_EXPECTED"),
    ],
)
def test_each_lie_has_its_name(collector, client, said, code):
    collector.accept("bank-b", header("bank-b"))
    for say in (collector.check, collector.accept):
        with pytest.raises(FinSecureError) as caught:
            say(client, said)
        assert (caught.value.code, caught.value.culprit) == (code, client)
    collector.accept("bank-c", header("bank-c"))
    assert len(collector.close()) == 2  # the lie has changed nothing


def test_no_sum_of_fewer_than_the_minimum(collector):
    collector.accept("bank-a", header("bank-a"))
    with pytest.raises(FinSecureError, match="TOO_FEW_INPUTS") as caught:
        collector.close()
    assert caught.value.fault is Fault.STATE


def test_lanes_bound_the_invited():
    with pytest.raises(FinSecureError, match="TOO_MANY_INVITED"):
        CollectEncryptedInputs(PARAMETERS, SIZE, PROOF, frozenset((*CLIENTS, "bank-e")), key_of)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"key_digest": b"short"}, "DIGEST_LENGTH"),
        ({"key_name": "federations/other/encryptionKeys/first"}, "KEY_FEDERATION"),
        ({"minimum_cohort": 1}, "COHORT_BOUNDS"),
    ],
)
def test_impossible_rounds(change, code):
    with pytest.raises(FinSecureError) as caught:
        make_parameters(**change)
    assert caught.value.code == code
