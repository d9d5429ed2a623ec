"""What a decryption request binds: each field changes the digests, each lie has its own reason."""

from dataclasses import replace

import pytest
from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.homomorphic.decryption import (
    Contribution,
    DecryptionRequest,
    EncryptedContext,
    RoundSubject,
    SumSubject,
    check_manifest,
    manifest_digest,
    verify_contribution,
)
from finsecure_crypto.homomorphic.key_record import (
    TRANSITIONS,
    Endorsement,
    Generation,
    KeyDescription,
    KeyState,
    verify_endorsements,
)
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.signing import SigningKey

DIGEST = bytes(range(32))
ROUND = RoundSubject("scoring", 3, 1, DIGEST, DIGEST, DIGEST)
SUM = SumSubject("exposure", DIGEST, DIGEST)
CONTEXT = EncryptedContext(
    "lending", ROUND, "federations/lending/encryptionKeys/first", DIGEST, 3, 10, DIGEST
)
OTHER = bytes(32)
KEYS = {name: SigningKey.generate() for name in ("bank-a", "bank-b", "bank-c")}


def _signed(client: str, context: EncryptedContext = CONTEXT, size: int = 64) -> Contribution:
    sha256 = client.encode().ljust(32, b"\0")
    signature = KEYS[client].sign(*context.input_statement(size, sha256))
    return Contribution(client, sha256, signature, client.encode())


MANIFEST = tuple(map(_signed, KEYS))


def _request(manifest: tuple[Contribution, ...] = MANIFEST) -> DecryptionRequest:
    return DecryptionRequest(CONTEXT, len(manifest), 64, manifest_digest(manifest), OTHER)


def _key_of(member: str, certificate: bytes) -> bytes:
    assert certificate == member.encode()
    return KEYS[member].public


@pytest.mark.parametrize(
    "change",
    [
        {"federation": "cards", "key_name": "federations/cards/encryptionKeys/first"},
        {"subject": SUM},
        {"subject": replace(ROUND, task="other")},
        {"subject": replace(ROUND, number=4)},
        {"subject": replace(ROUND, attempt=2)},
        {"subject": replace(ROUND, attempt_nonce=OTHER)},
        {"subject": replace(ROUND, model_digest=OTHER)},
        {"subject": replace(ROUND, task_digest=OTHER)},
        {"key_name": "federations/lending/encryptionKeys/second"},
        {"key_digest": OTHER},
        {"minimum_cohort": 4},
        {"maximum_cohort": 11},
        {"layout_digest": OTHER},
    ],
)
def test_each_field_is_bound(change: dict[str, object]) -> None:
    changed = replace(CONTEXT, **change)  # type: ignore[arg-type]
    assert changed.context() != CONTEXT.context()
    assert replace(_request(), context=changed).digest() != _request().digest()


@pytest.mark.parametrize(
    "change",
    [
        {"contributions": 4},
        {"size_bytes": 65},
        {"manifest_digest": DIGEST},
        {"total_sha256": DIGEST},
    ],
)
def test_each_field_of_a_request_is_bound(change: dict[str, object]) -> None:
    assert replace(_request(), **change).digest() != _request().digest()  # type: ignore[arg-type]


def test_all_attempts_of_a_round_are_one_subject() -> None:
    again = replace(CONTEXT, subject=replace(ROUND, attempt=2, attempt_nonce=OTHER))
    assert (
        again.subject_name == CONTEXT.subject_name == "federations/lending/tasks/scoring/rounds/3"
    )
    assert replace(CONTEXT, subject=SUM).subject_name == "federations/lending/sums/exposure"


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        (MANIFEST[:2], "MANIFEST_INVALID"),
        (MANIFEST[::-1], "MANIFEST_INVALID"),
        ((*MANIFEST[:2], MANIFEST[1]), "CONTRIBUTOR_REPEATED"),
        ((*MANIFEST[:2], replace(MANIFEST[2], sha256=MANIFEST[0].sha256)), "CONTRIBUTION_REPEATED"),
    ],
)
def test_a_manifest_has_distinct_signers_in_order(
    manifest: tuple[Contribution, ...], code: str
) -> None:
    check_manifest(_request(), MANIFEST)
    request = _request(manifest) if len(manifest) == 3 else _request()
    with pytest.raises(FinSecureError) as caught:
        check_manifest(request, manifest)
    assert caught.value.code == code


def test_a_signature_serves_for_one_context_and_one_input() -> None:
    verify_contribution(CONTEXT, MANIFEST[0], 64, _key_of)
    for context, contribution, size in (
        (replace(CONTEXT, minimum_cohort=2), MANIFEST[0], 64),
        (CONTEXT, replace(MANIFEST[0], sha256=OTHER), 64),
        (CONTEXT, replace(MANIFEST[0], signature=MANIFEST[1].signature), 64),
        (CONTEXT, MANIFEST[0], 65),
    ):
        with pytest.raises(FinSecureError) as caught:
            verify_contribution(context, contribution, size, _key_of)
        assert (caught.value.code, caught.value.culprit) == ("CONTRIBUTION_UNSIGNED", "bank-a")


@pytest.mark.parametrize(
    "make",
    [
        lambda: replace(CONTEXT, minimum_cohort=1),
        lambda: replace(CONTEXT, minimum_cohort=11),
        lambda: replace(CONTEXT, maximum_cohort=100_001),
        lambda: replace(CONTEXT, key_digest=b""),
        lambda: replace(CONTEXT, federation="Lending"),
        lambda: replace(CONTEXT, key_name="federations/cards/encryptionKeys/first"),
        lambda: replace(ROUND, attempt=0),
        lambda: replace(SUM, sum="../x"),
        lambda: replace(_request(), contributions=0),
    ],
)
def test_impossible_requests_are_refused(make: object) -> None:
    with pytest.raises(FinSecureError):
        make()  # type: ignore[operator]


def _endorsed() -> tuple[KeyDescription, list[Endorsement]]:
    description = KeyDescription(CONTEXT.key_name, Mode.PAILLIER, Generation.DEALER, 3, 2, DIGEST)
    return description, [
        Endorsement(name, holder, key.sign(*description.endorsement(holder)), name.encode())
        for holder, (name, key) in enumerate(KEYS.items(), 1)
    ]


def test_a_key_is_good_only_with_the_signature_of_each_holder() -> None:
    description, good = _endorsed()
    verify_endorsements(description, good[::-1], _key_of)
    bad = [
        (description, good[:2]),
        (description, [*good, good[0]]),
        (description, [*good[:2], replace(good[0], holder=3)]),
        (description, [replace(good[0], holder=2), replace(good[1], holder=1), good[2]]),
        (replace(description, digest=OTHER), good),
        (replace(description, mode=Mode.BGV), good),
        (replace(description, generation=Generation.DISTRIBUTED), good),
        (replace(description, name=description.name + "2"), good),
        (replace(description, threshold=3), good),
    ]
    for wrong, endorsements in bad:
        with pytest.raises(FinSecureError) as caught:
            verify_endorsements(wrong, endorsements, _key_of)
        assert caught.value.code == "KEY_NOT_ENDORSED"


def test_what_is_destroyed_stays_destroyed() -> None:
    assert set(TRANSITIONS) == set(KeyState)
    assert not TRANSITIONS[KeyState.DESTROYED]
    assert not TRANSITIONS[KeyState.COMPROMISED]
    assert {state for state in KeyState if state.decrypts} == {
        KeyState.ENABLED,
        KeyState.DEACTIVATED,
    }
    assert [state for state in KeyState if state.encrypts] == [KeyState.ENABLED]
