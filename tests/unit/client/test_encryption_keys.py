"""The encryption keys that a client takes: its own policy, the trustees' word, and no other key."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from finsecure_client.encryption_keys import KeyRegister
from finsecure_client.policy import Policy
from finsecure_client.trust import Trust
from finsecure_crypto.errors import FinSecureError, PolicyError
from finsecure_crypto.federation import Encryption, Masking
from finsecure_crypto.homomorphic.key_record import (
    Generation,
    KeyState,
)
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.secagg.parameters import ClientPolicy, Profile
from finsecure_rpc.encryption_keys import RegisteredKey

from tests.support.encrypted import KEY_NAME, TRUSTEES, registered_key
from tests.support.pki import TestAuthority

ENCRYPTION = Encryption(Mode.BGV, KEY_NAME)
POLICY = Policy(
    federation="lending",
    tasks=("*",),
    security=ClientPolicy(),
    protections=frozenset({"masks", "bgv"}),
    encryption_keys=("first",),
    trustees=frozenset(TRUSTEES.values()),
)


@pytest.fixture(scope="module")
def pki() -> TestAuthority:
    return TestAuthority()


@pytest.fixture(scope="module")
def registered(pki: TestAuthority, tmp_path_factory: pytest.TempPathFactory) -> RegisteredKey:
    return registered_key(pki, tmp_path_factory.mktemp("trustees"))


async def taken(
    pki: TestAuthority, key: RegisteredKey, policy: Policy = POLICY, digest: bytes | None = None
) -> Any:
    async def download(name: str) -> RegisteredKey:
        assert name == KEY_NAME
        return key

    trust = Trust("lending.finsecure.internal", lambda: pki.anchors, pki.current)
    register = KeyRegister(download, trust, policy)
    found = await register.key(ENCRYPTION, digest or key.description.digest)
    assert await register.key(ENCRYPTION, digest or key.description.digest) is found
    return found


async def test_a_sound_key_is_read_once(pki: TestAuthority, registered: RegisteredKey) -> None:
    found = await taken(pki, registered)
    assert found.digest() == registered.description.digest


BENT: list[tuple[Callable[[RegisteredKey], RegisteredKey], Policy, str]] = [
    (lambda key: replace(key, state=KeyState.DEACTIVATED), POLICY, "KEY_STATE"),
    (lambda key: replace(key, endorsements=key.endorsements[:2]), POLICY, "KEY_NOT_ENDORSED"),
    (
        lambda key: replace(
            key, endorsements=[replace(each, signature=bytes(64)) for each in key.endorsements]
        ),
        POLICY,
        "KEY_NOT_ENDORSED",
    ),
    (
        lambda key: replace(key, endorsed=key.endorsed + timedelta(days=400)),
        POLICY,
        "CERTIFICATE_EXPIRED",
    ),
    (
        lambda key: key,
        replace(POLICY, trustees=frozenset({"north", "south"})),
        "TRUSTEE_NOT_ALLOWED",
    ),
    # Whose policy names nobody trusts nobody, whoever the key service has enrolled.
    (
        lambda key: key,
        Policy(federation="lending", tasks=("*",), security=ClientPolicy()),
        "TRUSTEE_NOT_ALLOWED",
    ),
    (
        lambda key: replace(
            key, description=replace(key.description, generation=Generation.DEALER)
        ),
        POLICY,
        "KEY_DEALT",
    ),
    (
        lambda key: replace(key, description=replace(key.description, mode=Mode.CKKS)),
        POLICY,
        "KEY_MISMATCH",
    ),
]


@pytest.mark.parametrize(("bend", "policy", "code"), BENT)
async def test_no_other_key_is_taken(
    pki: TestAuthority,
    registered: RegisteredKey,
    bend: Callable[[RegisteredKey], RegisteredKey],
    policy: Policy,
    code: str,
) -> None:
    with pytest.raises(FinSecureError) as caught:
        await taken(pki, bend(registered), policy)
    assert caught.value.code == code


async def test_the_aggregator_cannot_name_another_key(
    pki: TestAuthority, registered: RegisteredKey
) -> None:
    with pytest.raises(FinSecureError, match="KEY_MISMATCH"):
        await taken(pki, registered, digest=bytes(32))


@pytest.mark.parametrize(
    ("protection", "code"),
    [
        (Masking(Profile.ACTIVE, None), None),
        (ENCRYPTION, None),
        (Encryption(Mode.CKKS, KEY_NAME), "PROTECTION_NOT_ALLOWED"),
        (Encryption(Mode.BGV, KEY_NAME + "-2"), "KEY_NOT_ALLOWED"),
    ],
)
def test_the_policy_pins_modes_and_keys(protection: Masking | Encryption, code: str | None) -> None:
    if code is None:
        POLICY.check_protection(protection)
        return
    with pytest.raises(PolicyError) as caught:
        POLICY.check_protection(protection)
    assert caught.value.code == code


def test_masks_alone_are_allowed_unless_the_owner_says_more() -> None:
    plain = Policy("lending", ("*",), ClientPolicy())
    with pytest.raises(PolicyError, match="PROTECTION_NOT_ALLOWED"):
        plain.check_protection(ENCRYPTION)
