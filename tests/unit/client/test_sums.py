"""A member's side of audited sums: what it refuses, that it contributes once, what it believes."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from finsecure.aggregation.v1 import sums_pb2
from finsecure_client.sums import convert
from finsecure_client.sums.book import Book
from finsecure_client.sums.member import AuditedSums
from finsecure_client.sums.policy import SumPolicy
from finsecure_client.sums.terms import AuditedSum
from finsecure_client.sums.values_file import read_values
from finsecure_crypto import signing
from finsecure_crypto.errors import FinSecureError, UnavailableError
from finsecure_crypto.federation import Encryption
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.rounds import EncryptedInputHeader
from finsecure_crypto.homomorphic.scheme import EncryptionKey
from finsecure_crypto.minimum_cohorts import MinimumCohorts
from finsecure_crypto.secagg.membership import Identity
from finsecure_crypto.signing import SigningKey

from tests.support.encrypted import keys
from tests.support.published import FixedMinima
from tests.support.sums import NAME, spec

POLICY = SumPolicy("lending", ("exposure*",), minimum_contributors=3, maximum_value=1000)
VALUES = {"shop": 1, "mill": 1000}


def message(**changes: object) -> sums_pb2.Sum:
    key, _ = keys(Mode.PAILLIER)
    fields: dict[str, object] = {
        "name": NAME,
        "spec": spec(),
        "creator": "spiffe://test/operator/alice",
        "state": sums_pb2.SUM_STATE_COLLECTING,
        "nonce": bytes(32),
        "key_digest": key.digest(),
    }
    return sums_pb2.Sum(**(fields | changes))  # type: ignore[arg-type]


class Service:
    """An aggregator with one sum; it may lose answers."""

    def __init__(self, **changes: object) -> None:
        self.sum = convert.audited_sum(message(**changes))
        self.sent: list[tuple[EncryptedInputHeader, bytes]] = []
        self.lost = False
        self.states: list[AuditedSum] = []

    async def get(self, name: str) -> AuditedSum:
        return self.sum

    async def contribute(self, name: str, header: EncryptedInputHeader, content: bytes) -> None:
        self.sent.append((header, content))
        if self.lost:
            raise UnavailableError("SERVICE_UNREACHABLE", "lost")

    async def watch(self, name: str) -> AsyncIterator[AuditedSum]:
        for state in self.states:
            yield state


class Keys:
    """Gives the key that it is asked for, and no other."""

    def __init__(self) -> None:
        self.asked = 0

    async def key(self, encryption: Encryption, digest: bytes) -> EncryptionKey:
        self.asked += 1
        key, _ = keys(Mode.PAILLIER)
        assert (encryption.key_name, digest) == (spec().encryption_key, key.digest())
        return key


class Member:
    """A member with its disk, which survives a restart."""

    def __init__(self, folder: Path, service: Service, policy: SumPolicy = POLICY) -> None:
        self.signing = SigningKey.generate()
        self.keys = Keys()
        self.minima = FixedMinima()
        self.sums = AuditedSums(
            service,  # type: ignore[arg-type]
            policy,
            self.keys,
            Book(folder / "sums"),
            self.minima,
            lambda: Identity("bank-a", b"certificate", self.signing),
        )

    async def contribute(self, values: Mapping[str, int] = VALUES) -> None:
        await self.sums.contribute("exposure", values)

    async def refusal(self, values: Mapping[str, int] = VALUES) -> str:
        with pytest.raises(FinSecureError) as caught:
            await self.contribute(values)
        return caught.value.code


async def test_a_contribution_is_signed_for_this_sum_and_of_its_size(tmp_path: Path) -> None:
    service = Service()
    member = Member(tmp_path, service)
    await member.contribute()
    ((header, content),) = service.sent
    statement = service.sum.binding().input_statement(
        len(content), hashlib.sha256(content).digest()
    )
    assert signing.verify(member.signing.public, header.signature, *statement)
    key, _ = keys(Mode.PAILLIER)
    assert len(content) == key.shape(service.sum.terms.layout()).input_bytes


async def test_after_a_lost_answer_the_same_ciphertexts_are_sent_again(tmp_path: Path) -> None:
    service = Service()
    service.lost = True
    assert await Member(tmp_path, service).refusal() == "SERVICE_UNREACHABLE"
    service.lost = False
    again = Member(tmp_path, service)  # with a renewed signing key
    await again.contribute()
    assert service.sent[0][1] == service.sent[1][1]
    assert service.sent[0][0].signature != service.sent[1][0].signature
    assert again.keys.asked == 0
    (page,) = (tmp_path / "sums").iterdir()
    assert page.stat().st_mode & 0o077 == 0


async def test_other_values_and_a_sum_made_anew_under_its_name_get_nothing(tmp_path: Path) -> None:
    service = Service()
    member = Member(tmp_path, service)
    await member.contribute()
    assert await member.refusal({"shop": 2}) == "CONTRIBUTION_MADE"
    for changes in ({"nonce": b"n" * 32}, {"spec": spec(description="for others")}):
        service.sum = convert.audited_sum(message(**changes))
        assert await member.refusal() == "SUM_CHANGED"
    assert len(service.sent) == 1


@pytest.mark.parametrize(
    ("changes", "values", "code"),
    [
        ({"name": NAME.replace("exposure", "salaries")}, VALUES, "SUM_MISMATCH"),
        ({"state": sums_pb2.SUM_STATE_OPENING}, VALUES, "SUM_NOT_COLLECTING"),
        ({"spec": spec(minimum_contributors=2)}, VALUES, "GROUP_BELOW_POLICY"),
        ({}, {"shop": 1001}, "VALUE_ABOVE_POLICY"),
        ({}, {"shop": -1}, "VALUE_OUT_OF_RANGE"),
        ({}, {"shop": True}, "VALUE_OUT_OF_RANGE"),
        ({"spec": spec(maximum=5)}, {"shop": 6}, "VALUE_OUT_OF_RANGE"),
        ({}, {"kiosk": 1}, "LABEL_UNKNOWN"),
    ],
)
async def test_refusals_before_anything_is_encrypted(
    tmp_path: Path, changes: dict[str, object], values: dict[str, int], code: str
) -> None:
    service = Service(**changes)
    member = Member(tmp_path, service)
    assert await member.refusal(values) == code
    assert (service.sent, member.keys.asked) == ([], 0)
    assert not (tmp_path / "sums").exists()


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (SumPolicy("lending"), "SUM_NOT_ALLOWED"),
        (SumPolicy("other", ("*",)), "SUM_NOT_ALLOWED"),
        (SumPolicy("lending", ("*",)), "GROUP_BELOW_POLICY"),  # 50 by default
        (SumPolicy("lending", ("*",), 3, encryption_keys=("new-*",)), "KEY_NOT_ALLOWED"),
    ],
)
async def test_what_the_owner_has_pinned(tmp_path: Path, policy: SumPolicy, code: str) -> None:
    service = Service()
    if policy.federation == "other":
        member = Member(tmp_path, service, policy)
        with pytest.raises(FinSecureError) as caught:
            await member.sums.contribute(NAME, VALUES)
        assert caught.value.code == code
    else:
        assert await Member(tmp_path, service, policy).refusal() == code


async def test_totals_by_label_once_opened(tmp_path: Path) -> None:
    service = Service()
    opened = message(state=sums_pb2.SUM_STATE_OPENED, totals=[1, 2, 3], contributions=3)
    service.states = [service.sum, convert.audited_sum(opened)]
    totals = await Member(tmp_path, service).sums.totals("exposure")
    assert totals == {"shop": 1, "mill": 2, "bank": 3}


async def test_a_sum_that_failed_says_why(tmp_path: Path) -> None:
    service = Service(state=sums_pb2.SUM_STATE_FAILED, detail="2 of 3 are there")
    with pytest.raises(FinSecureError, match="2 of 3") as caught:
        await Member(tmp_path, service).sums.totals("exposure")
    assert caught.value.code == "SUM_NOT_OPENED"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "federations/lending/tasks/exposure"},
        {"nonce": b"short"},
        {"spec": spec(labels=["shop", "shop"])},
        {"spec": spec(maximum=2**63)},
        {"spec": spec(encryption_key="federations/other/encryptionKeys/first")},
        {"state": sums_pb2.SUM_STATE_OPENED, "totals": [1, 2]},
        {"state": sums_pb2.SUM_STATE_OPENED, "totals": [2**63, 2, 3], "contributions": 3},
        {"state": 77},
    ],
)
def test_sums_that_make_no_sense_are_the_aggregators_fault(changes: dict[str, object]) -> None:
    with pytest.raises(FinSecureError) as caught:
        convert.audited_sum(message(**changes))
    assert caught.value.code == "MESSAGE_INVALID"


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("v.json", '{"shop": 3, "mill": 0}', {"shop": 3, "mill": 0}),
        ("v.csv", 'label,value\nshop,3\n"a, b",12\n', {"shop": 3, "a, b": 12}),
        ("v.json", '{"shop": 3.5}', None),
        ("v.json", '{"shop": true}', None),
        ("v.json", '{"shop": 3, "shop": 4}', None),
        ("v.json", "[1]", None),
        ("v.json", "{", None),
        ("v.csv", "merchant,value\nshop,3\n", None),
        ("v.csv", "label,value\nshop,3.5\n", None),
        ("v.csv", "label,value\nshop\n", None),
    ],
)
def test_files_of_values(
    tmp_path: Path, name: str, text: str, values: dict[str, int] | None
) -> None:
    path = tmp_path / name
    path.write_text(text)
    if values is not None:
        assert read_values(path) == values
        return
    with pytest.raises(FinSecureError) as caught:
        read_values(path)
    assert caught.value.code == "VALUES_INVALID"


async def test_no_contribution_below_the_larger_of_the_own_minimum_and_the_federations(
    tmp_path: Path,
) -> None:
    service = Service()
    member = Member(tmp_path, service)
    member.minima.demanded = MinimumCohorts("federations/lending", 2, sums=4)
    assert await member.refusal() == "COHORT_BELOW_FEDERATION_MINIMUM"
    member.minima.demanded = UnavailableError("MINIMUM_COHORT_UNKNOWN", "never read")
    assert await member.refusal() == "MINIMUM_COHORT_UNKNOWN"
    assert (member.keys.asked, service.sent) == (0, [])
    member.minima.demanded = MinimumCohorts("federations/lending", 3, sums=3)
    await member.contribute()
    # The own minimum is nobody else's to lower.
    strict = Member(tmp_path / "strict", service, replace(POLICY, minimum_contributors=4))
    strict.minima.demanded = MinimumCohorts("federations/lending", 4, sums=2)
    assert await strict.refusal() == "GROUP_BELOW_POLICY"
