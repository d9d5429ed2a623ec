"""A trustee helps to open a sum once, and only what it added up itself; refusals say why."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from finsecure_crypto.errors import (
    FinSecureError,
    PolicyError,
    ProtocolViolationError,
    StateError,
    UnavailableError,
)
from finsecure_crypto.homomorphic.decryption import Contribution
from finsecure_crypto.homomorphic.key_record import KeyState
from finsecure_crypto.minimum_cohorts import MinimumCohorts
from finsecure_keyservice.trustee import opening as opening_module
from finsecure_keyservice.trustee import workers
from finsecure_keyservice.trustee.adding import Piece
from finsecure_keyservice.trustee.schema import KEYS
from gmpy2 import invert
from sqlalchemy import update

from tests.support.paillier import dealt
from tests.support.pki import TestAuthority
from tests.support.published import FixedMinima
from tests.support.trustees import (
    CALLER,
    CLIENTS,
    KEY_NAME,
    LAYOUT,
    ROUND,
    RULES,
    SUM,
    Bank,
    Federation,
    Trustee,
    ciphertexts,
    contributed,
    key,
    make_trustee,
    pieces,
    share,
)

SUBJECT = "federations/lending/tasks/scoring/rounds/3"


async def refusal(trustee: Trustee, bank: Bank) -> FinSecureError:
    with pytest.raises(FinSecureError) as caught:
        await trustee.open(bank)
    return caught.value


async def test_two_trustees_open_the_sum_and_every_answer_is_the_first_one(
    federation: Federation, trustee: Trustee, tmp_path: Path
) -> None:
    bank = federation.sum()
    other = make_trustee(tmp_path / "trustee-3", federation.pki, 3)
    other.hold()
    partials = {1: await trustee.open(bank), 3: await other.open(bank)}
    context = bank.request.digest()
    for holder, partial in partials.items():
        key().verify_partial(bank.total, holder, partial, context)
    sums = key().combine(LAYOUT, 3, bank.total, partials, context)
    assert sums["amount"].tolist() == [111, 222, 333]
    # Paillier's proofs are random: the same bytes come from the disk, not from computing again.
    again = trustee.restarted()
    assert await again.open(bank) == partials[1]
    assert again.verdicts(SUBJECT) == [("OPENED", None)]
    again.database.close()
    other.database.close()


async def test_one_partial_opens_nothing(federation: Federation, trustee: Trustee) -> None:
    bank = federation.sum()
    partial = await trustee.open(bank)
    with pytest.raises(StateError) as caught:
        key().combine(LAYOUT, 3, bank.total, {1: partial}, bank.request.digest())
    assert caught.value.code == "TOO_FEW_PARTIALS"


def dropped(position: int) -> Callable[[list[Contribution]], list[Contribution]]:
    return lambda manifest: manifest[:position] + manifest[position + 1 :]


def forged(manifest: list[Contribution]) -> list[Contribution]:
    """The aggregator puts a bank's signature under other ciphertexts."""
    return [replace(manifest[0], sha256=bytes(32)), *manifest[1:]]


def unsigned(manifest: list[Contribution]) -> list[Contribution]:
    return [*manifest[:2], replace(manifest[2], signature=bytes(64))]


def impersonated(manifest: list[Contribution]) -> list[Contribution]:
    """One bank's certificate stands for another."""
    return [*manifest[:2], replace(manifest[2], certificate=manifest[1].certificate)]


REFUSED: dict[str, tuple[Callable[[Federation], Bank], str | None]] = {
    "COHORT_TOO_SMALL": (lambda f: f.sum(CLIENTS[:1]), None),
    "MANIFEST_INVALID": (
        lambda f: (lambda bank: replace(bank, manifest=bank.manifest[::-1]))(f.sum()),
        None,
    ),
    "CONTRIBUTOR_REPEATED": (lambda f: f.sum(("bank-a", "bank-b", "bank-b")), None),
    "CONTRIBUTION_REPEATED": (
        lambda f: f.sum(inputs={"bank-c": contributed("bank-a")}),
        None,
    ),
    "CONTRIBUTION_UNSIGNED": (lambda f: f.sum(change=unsigned), "bank-c"),
    "CONTRIBUTOR_UNTRUSTED": (lambda f: f.sum(change=impersonated), "bank-c"),
    "KEY_DIGEST_MISMATCH": (
        lambda f: f.sum(context=replace(f.context(), key_digest=bytes(32))),
        None,
    ),
    "KEY_UNKNOWN": (
        lambda f: f.sum(context=replace(f.context(), key_name=KEY_NAME + "2")),
        None,
    ),
    "FEDERATION_MISMATCH": (
        lambda f: f.sum(
            context=replace(
                f.context(),
                federation="cards",
                key_name="federations/cards/encryptionKeys/first",
            )
        ),
        None,
    ),
    "COHORT_TOO_LARGE": (
        lambda f: f.sum(context=replace(f.context(), maximum_cohort=2)),
        None,
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
async def test_each_lie_is_refused_with_its_own_reason_and_on_record(
    federation: Federation, trustee: Trustee, reason: str
) -> None:
    make, culprit = REFUSED[reason]
    bank = make(federation)
    error = await refusal(trustee, bank)
    assert (error.code, error.culprit) == (reason, culprit)
    restarted = trustee.restarted()
    assert restarted.verdicts(bank.request.context.subject_name) == [(reason, culprit)]
    restarted.database.close()


async def test_a_forged_contribution_is_not_the_banks(
    federation: Federation, trustee: Trustee
) -> None:
    error = await refusal(trustee, federation.sum(change=forged))
    assert (error.code, error.culprit) == ("CONTRIBUTION_UNSIGNED", "bank-a")


async def test_what_was_signed_for_one_round_serves_for_no_other(
    federation: Federation, trustee: Trustee
) -> None:
    bank = federation.sum()
    for subject in (replace(ROUND, number=4), replace(ROUND, attempt=2), SUM):
        elsewhere = replace(bank.request, context=federation.context(subject))
        error = await refusal(trustee, replace(bank, request=elsewhere))
        assert error.code == "CONTRIBUTION_UNSIGNED"


async def test_sums_need_the_group_that_this_trustee_wants(
    federation: Federation, trustee: Trustee
) -> None:
    trustee.rules = replace(RULES, minimum_sum_cohort=50)
    assert (await refusal(trustee, federation.sum(subject=SUM))).code == "COHORT_TOO_SMALL"
    agreed = federation.sum(context=federation.context(minimum=4))
    assert (await refusal(trustee, agreed)).code == "COHORT_TOO_SMALL"
    trustee.rules = replace(RULES, maximum_bytes=100)
    assert (await refusal(trustee, federation.sum())).code == "INPUT_TOO_LARGE"


async def test_the_larger_of_the_own_and_the_federations_minimum_counts(
    federation: Federation, trustee: Trustee
) -> None:
    below = "COHORT_BELOW_FEDERATION_MINIMUM"
    trustee.minima = FixedMinima(rounds=4, sums=2)
    assert (await refusal(trustee, federation.sum())).code == below
    assert trustee.verdicts(SUBJECT) == [(below, None)]
    trustee.minima = FixedMinima(rounds=2, sums=4)
    assert (await refusal(trustee, federation.sum(subject=SUM))).code == below
    # The own minimum is nobody else's to lower.
    trustee.rules = replace(RULES, minimum_sum_cohort=4)
    trustee.minima = FixedMinima(rounds=2, sums=2)
    assert (await refusal(trustee, federation.sum(subject=SUM))).code == "COHORT_TOO_SMALL"
    assert await trustee.open(federation.sum())


async def test_while_the_federations_minimum_is_not_known_nothing_is_decided(
    federation: Federation, trustee: Trustee
) -> None:
    trustee.minima.demanded = UnavailableError("MINIMUM_COHORT_UNKNOWN", "never read")
    assert (await refusal(trustee, federation.sum())).code == "MINIMUM_COHORT_UNKNOWN"
    assert trustee.verdicts(SUBJECT) == []


async def test_a_minimum_that_is_raised_while_contributions_are_added_counts(
    federation: Federation, trustee: Trustee
) -> None:
    bank, openings = federation.sum(), trustee.openings
    held = await openings.admit(CALLER, bank.request, bank.manifest)
    trustee.minima.demanded = MinimumCohorts("federations/lending", 2, rounds=4)
    with pytest.raises(PolicyError, match="COHORT_BELOW_FEDERATION_MINIMUM"):
        await openings.open(CALLER, bank.request, bank.manifest, held, pieces(bank.stream))


async def test_revoked_and_expired_signers_do_not_count(tmp_path: Path) -> None:
    federation = Federation(TestAuthority())
    trustee = make_trustee(tmp_path / "t", federation.pki, 1)
    trustee.hold()
    now = datetime.now(UTC)
    federation.signer(
        "bank-b", not_before=now - timedelta(days=1), not_after=now - timedelta(hours=1)
    )
    error = await refusal(trustee, federation.sum())
    assert (error.code, error.culprit) == ("CONTRIBUTOR_EXPIRED", "bank-b")
    del federation.signers["bank-b"]
    bank = federation.sum()
    federation.pki.revoke(federation.signer("bank-c").serial)
    error = await refusal(trustee, bank)
    assert (error.code, error.culprit) == ("CONTRIBUTOR_REVOKED", "bank-c")
    trustee.database.close()


@pytest.mark.parametrize("state", [KeyState.DISABLED, KeyState.DESTROYED, KeyState.COMPROMISED])
async def test_a_key_out_of_use_opens_nothing(
    federation: Federation, trustee: Trustee, state: KeyState
) -> None:
    trustee.states.current = state
    assert (await refusal(trustee, federation.sum())).code == "KEY_STATE"


async def test_whom_the_owner_has_not_named_does_not_count(
    federation: Federation, trustee: Trustee
) -> None:
    trustee.rules = replace(RULES, contributors=("bank-[ab]",))
    error = await refusal(trustee, federation.sum())
    assert (error.code, error.culprit) == ("CONTRIBUTOR_UNLISTED", "bank-c")
    assert trustee.verdicts(SUBJECT) == [("CONTRIBUTOR_UNLISTED", "bank-c")]
    trustee.rules = replace(RULES, contributors=("bank-[ab]", "bank-c"))
    await trustee.open(federation.sum())


async def test_a_key_that_goes_out_of_use_while_ciphertexts_come_opens_nothing(
    federation: Federation, trustee: Trustee
) -> None:
    bank = federation.sum()

    async def disabled_meanwhile() -> AsyncIterator[Piece]:
        async for piece in pieces(bank.stream):
            trustee.states.current = KeyState.COMPROMISED
            yield piece

    held = await trustee.openings.admit(CALLER, bank.request, bank.manifest)
    with pytest.raises(StateError) as caught:
        await trustee.openings.open(CALLER, bank.request, bank.manifest, held, disabled_meanwhile())
    assert caught.value.code == "KEY_STATE"
    assert trustee.verdicts(SUBJECT) == [("KEY_STATE", None)]
    assert await trustee.openings.answered(CALLER, bank.request) is None


async def test_a_contributor_that_is_put_out_while_ciphertexts_come_does_not_count(
    tmp_path: Path,
) -> None:
    federation = Federation(TestAuthority())
    trustee = make_trustee(tmp_path / "t", federation.pki, 1)
    trustee.hold()
    bank = federation.sum()

    async def revoked_meanwhile() -> AsyncIterator[Piece]:
        async for piece in pieces(bank.stream):
            federation.pki.revoke(federation.signer("bank-c").serial)
            yield piece

    openings = trustee.openings
    held = await openings.admit(CALLER, bank.request, bank.manifest)
    with pytest.raises(ProtocolViolationError) as caught:
        await openings.open(CALLER, bank.request, bank.manifest, held, revoked_meanwhile())
    assert (caught.value.code, caught.value.culprit) == ("CONTRIBUTOR_REVOKED", "bank-c")
    assert trustee.verdicts(SUBJECT) == [("CONTRIBUTOR_REVOKED", "bank-c")]
    assert await openings.answered(CALLER, bank.request) is None
    trustee.database.close()


async def test_a_contributor_whose_certificate_ends_while_ciphertexts_come_still_counts(
    federation: Federation, trustee: Trustee
) -> None:
    bank = federation.sum()
    auditor, passed = trustee.books.auditor, [timedelta(0)]
    skewed = replace(auditor, clock=lambda: auditor.clock() + passed[0])
    trustee.books = replace(trustee.books, auditor=skewed)
    openings = trustee.openings
    held = await openings.admit(CALLER, bank.request, bank.manifest)

    async def for_long() -> AsyncIterator[Piece]:
        async for piece in pieces(bank.stream):
            passed[0] = timedelta(days=1000)
            yield piece

    await openings.open(CALLER, bank.request, bank.manifest, held, for_long())
    assert trustee.verdicts(SUBJECT)[-1] == ("OPENED", None)


async def test_while_the_key_service_is_silent_nothing_is_decided(
    federation: Federation, trustee: Trustee
) -> None:
    trustee.states.current = UnavailableError("SERVICE_UNREACHABLE", "gone")
    assert (await refusal(trustee, federation.sum())).code == "SERVICE_UNREACHABLE"
    assert trustee.verdicts(SUBJECT) == []
    trustee.states.current = KeyState.DEACTIVATED  # still opens what was encrypted before
    await trustee.open(federation.sum())


async def test_after_one_opening_no_other_of_the_subject_overlap_or_beyond_the_budget(
    federation: Federation, trustee: Trustee
) -> None:
    await trustee.open(federation.sum())
    # The round again, without one bank: the difference would be that bank's update.
    trustee.rules = replace(RULES, minimum_round_cohort=2)
    error = await refusal(trustee, federation.sum(CLIENTS[:2]))
    assert error.code == "SUBJECT_OPENED"
    later = replace(ROUND, attempt=2, attempt_nonce=bytes(32))
    assert (await refusal(trustee, federation.sum(subject=later))).code == "SUBJECT_OPENED"
    # Ciphertexts that were in the total, in another sum.
    again = {client: contributed(client) for client in CLIENTS}
    error = await refusal(trustee, federation.sum(subject=replace(ROUND, number=4), inputs=again))
    assert (error.code, error.culprit) == ("CONTRIBUTION_REUSED", "bank-a")
    trustee.rules = replace(RULES, decryptions_per_key=1)
    error = await refusal(trustee, federation.sum(subject=SUM))
    assert error.code == "BUDGET_SPENT"
    verdicts = [verdict for verdict, _ in trustee.verdicts(SUBJECT)]
    assert verdicts == ["OPENED", "SUBJECT_OPENED", "SUBJECT_OPENED"]


async def test_the_total_is_the_sum_of_the_contributions(
    federation: Federation, trustee: Trustee
) -> None:
    own = ciphertexts(contributed("bank-a"))
    alone = federation.sum(total=own)  # one bank's update instead of the sum
    assert (await refusal(trustee, alone)).code == "TOTAL_MISMATCH"
    bank = federation.sum()
    swapped = replace(bank, inputs=[bank.inputs[1], bank.inputs[0], bank.inputs[2]])
    error = await refusal(trustee, swapped)
    assert (error.code, error.culprit) == ("CONTRIBUTION_MISMATCH", "bank-a")
    broken = bytes(len(bank.inputs[1]))  # zero is no ciphertext, though its bank signed it
    malformed = federation.sum(inputs={"bank-b": broken}, total=bank.total)
    error = await refusal(trustee, malformed)
    assert (error.code, error.culprit) == ("CIPHERTEXT_MALFORMED", "bank-b")
    assert trustee.verdicts(SUBJECT) == [
        ("TOTAL_MISMATCH", None),
        ("CONTRIBUTION_MISMATCH", "bank-a"),
        ("CIPHERTEXT_MALFORMED", "bank-b"),
    ]
    assert await trustee.open(bank)  # none of it cost the honest request anything


def cancelled() -> bytes:
    """Bank-c, shown the others' inputs by the aggregator, leaves bank-a alone in the total.

    It takes the inverse of bank-b's ciphertext, blinded anew, and the proof of its own.
    """
    public, run = dealt(2048).key, ciphertexts(contributed("bank-b"))
    (other,) = public.modulus.parse(run)
    inverse = public.modulus.join([invert(other, public.modulus.square)])
    return blinded_anew(inverse + contributed("bank-c")[len(run) :])


def blinded_anew(data: bytes) -> bytes:
    run = ciphertexts(data)
    public = dealt(2048).key
    return public.add(run, public.encrypt_integers([0])) + data[len(run) :]


async def test_a_contributor_that_conspires_with_the_aggregator_has_nobody_opened(
    federation: Federation, trustee: Trustee
) -> None:
    """Each of these would be opened, were it not for the proofs; each names who made it."""
    later = federation.context(replace(ROUND, number=2))
    for data in (
        cancelled(),
        blinded_anew(contributed("bank-a")),
        contributed("bank-c", later),
    ):
        bank = federation.sum(inputs={"bank-c": data})
        error = await refusal(trustee, bank)
        assert (error.code, error.culprit) == ("PLAINTEXT_PROOF_REJECTED", "bank-c")
    bare = {client: ciphertexts(contributed(client)) for client in CLIENTS}
    error = await refusal(trustee, federation.sum(inputs=bare))
    assert (error.code, error.culprit) == ("PLAINTEXT_PROOF_MISSING", "bank-a")
    verdicts = [("PLAINTEXT_PROOF_REJECTED", "bank-c")] * 3
    assert trustee.verdicts(SUBJECT) == [*verdicts, ("PLAINTEXT_PROOF_MISSING", "bank-a")]
    await trustee.open(federation.sum())


@pytest.mark.parametrize(
    "bend",
    [
        lambda stream: [Piece(0, stream[:-1])],
        lambda stream: [Piece(0, stream), Piece(len(stream), b"x")],
        lambda stream: [Piece(0, stream + b"x")],
        lambda stream: [Piece(5, stream[5:]), Piece(0, stream[:5])],
        lambda stream: [Piece(0, stream[:9]), Piece(0, stream[:9]), Piece(18, stream[18:])],
        lambda stream: [],
    ],
    ids=["truncated", "longer", "oversized", "reordered", "repeated", "empty"],
)
async def test_a_bent_stream_is_refused(
    federation: Federation, trustee: Trustee, bend: Callable[[bytes], list[Piece]]
) -> None:
    bank = federation.sum()

    async def bent() -> object:
        for piece in bend(bank.stream):
            yield piece

    held = await trustee.openings.admit(CALLER, bank.request, bank.manifest)
    with pytest.raises(FinSecureError) as caught:
        await trustee.openings.open(CALLER, bank.request, bank.manifest, held, bent())  # type: ignore[arg-type]
    assert caught.value.code == "STREAM_ORDER"
    assert trustee.verdicts(SUBJECT) == [("STREAM_ORDER", None)]


async def test_the_decision_is_on_disk_before_the_partial_leaves(
    federation: Federation, trustee: Trustee, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the commit, nothing was opened; killed after it, the same bytes come again."""
    bank = federation.sum()

    async def killed(*_: object) -> bytes:
        raise UnavailableError("WORKER_FAILED", "killed")

    with monkeypatch.context() as patched:
        patched.setattr(opening_module, "partial_of", killed)
        assert (await refusal(trustee, bank)).code == "WORKER_FAILED"
    trustee = trustee.restarted()
    assert trustee.verdicts(SUBJECT) == []
    partial = await trustee.open(bank)
    trustee = trustee.restarted()
    known = await trustee.openings.answered(CALLER, bank.request)
    assert known is not None
    assert known.partial == partial
    trustee.database.close()


async def test_two_requests_for_one_subject_at_once_open_it_once(
    federation: Federation, trustee: Trustee, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustee.rules = replace(RULES, minimum_round_cohort=2)
    banks = [federation.sum(), federation.sum(CLIENTS[:2]), federation.sum()]
    openings = trustee.openings
    held = [await openings.admit(CALLER, bank.request, bank.manifest) for bank in banks]
    answers = await asyncio.gather(
        *(
            openings.open(CALLER, bank.request, bank.manifest, each, pieces(bank.stream))
            for bank, each in zip(banks, held, strict=True)
        ),
        return_exceptions=True,
    )
    opened = [answer for answer in answers if not isinstance(answer, BaseException)]
    refused = [answer for answer in answers if isinstance(answer, FinSecureError)]
    assert len(opened) + len(refused) == 3
    assert {error.code for error in refused} == {"SUBJECT_OPENED"}
    assert len({answer.partial for answer in opened}) == 1


async def test_a_worker_that_dies_takes_nobody_with_it(
    federation: Federation, trustee: Trustee
) -> None:
    bank = federation.sum()
    held = await trustee.openings.admit(CALLER, bank.request, bank.manifest)
    async with workers.started(held) as working:
        working.kill()
        with pytest.raises(UnavailableError) as caught:
            await working.give(bank.stream)
        assert caught.value.code == "WORKER_FAILED"
    assert await trustee.open(bank)


async def test_a_share_of_another_place_does_not_open(
    federation: Federation, trustee: Trustee
) -> None:
    wrapped = trustee.kek.wrap(share(1).serialise(), b"elsewhere")
    trustee.database.run_sync(lambda c: c.execute(update(KEYS).values(wrapped_share=wrapped)))
    assert (await refusal(trustee, federation.sum())).code == "WRAPPED_KEY_REJECTED"
