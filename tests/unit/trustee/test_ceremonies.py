"""Key ceremonies: the operator carries messages that it can neither read, change nor swap."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from finsecure_crypto import sealing
from finsecure_crypto.encoding import CountSection, VectorLayout, rounding_generator
from finsecure_crypto.errors import AuthenticationError, FinSecureError
from finsecure_crypto.homomorphic.ceremony import (
    Ceremony,
    CeremonyMessage,
    dealt_share_context,
)
from finsecure_crypto.homomorphic.key_record import Generation, verify_endorsements
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.homomorphic.registry import load_key, load_share
from finsecure_keyservice.trustee.ceremonies import Ceremonies
from finsecure_keyservice.trustee.dealt_shares import DealtShare
from finsecure_keyservice.trustee.records import HeldKey
from finsecure_keyservice.trustee.schemes import LAST_STEP
from finsecure_keyservice.trustee.surroundings import share_context

from tests.support.paillier import dealt
from tests.support.trustees import OPERATOR, Federation, Trustee, key, make_trustee, share

NAME = "federations/lending/encryptionKeys/made"
NONCE = bytes(range(32))


@pytest.fixture
def trustees(federation: Federation, tmp_path: Path) -> Iterator[list[Trustee]]:
    made = [make_trustee(tmp_path / f"t{holder}", federation.pki, holder) for holder in (1, 2, 3)]
    yield made
    for trustee in made:
        trustee.database.close()


async def begun(
    trustees: list[Trustee], mode: Mode = Mode.BGV
) -> tuple[Ceremony, list[Ceremonies]]:
    all_of_them = [trustee.ceremonies() for trustee in trustees]
    cards = tuple([await trustee.holdings.card(OPERATOR) for trustee in trustees])
    return Ceremony(NAME, mode, NONCE, cards), all_of_them


async def step(
    ceremony: Ceremony, parts: list[Ceremonies], number: int, messages: list[CeremonyMessage]
) -> tuple[list[CeremonyMessage], list[HeldKey | None]]:
    answers = [await each.advance(OPERATOR, ceremony, number, messages) for each in parts]
    said = [message for message, _ in answers if message is not None]
    return said, [held for _, held in answers]


async def run_to(
    ceremony: Ceremony, parts: list[Ceremonies], last: int
) -> tuple[list[CeremonyMessage], list[HeldKey | None]]:
    messages: list[CeremonyMessage] = []
    held: list[HeldKey | None] = []
    for number in range(1, last + 1):
        messages, held = await step(ceremony, parts, number, messages)
    return messages, held


@pytest.mark.parametrize("mode", [Mode.BGV, Mode.CKKS])
async def test_three_trustees_make_a_key_that_any_two_open(
    federation: Federation, trustees: list[Trustee], mode: Mode
) -> None:
    ceremony, parts = await begun(trustees, mode)
    _, held = await run_to(ceremony, parts, LAST_STEP)
    keys = [each for each in held if each is not None]
    assert [each.holder for each in keys] == [1, 2, 3]
    assert {each.description.digest for each in keys} == {keys[0].description.digest}
    assert keys[0].description.generation is Generation.DISTRIBUTED
    endorsements = [
        trustee.holdings.endorse(each) for trustee, each in zip(trustees, keys, strict=True)
    ]
    public = {part.trustee: part for part in ceremony.trustees}
    verify_endorsements(
        keys[0].description,
        endorsements,
        lambda trustee, certificate: public[trustee].verify(
            lambda *_: trustees[int(trustee[-1]) - 1].identities.current().signing_key.public
        ),
    )
    made = load_key(mode, keys[0].public_key)
    layout = VectorLayout((CountSection("amount", 2, 9),), 4)
    values = {"amount": np.array([3, 4], dtype=np.uint64)}
    total = b"".join(made.encrypt(layout, values, rounding_generator()))
    shares = {
        each.holder: load_share(mode, trustee.kek.unwrap(each.wrapped_share, share_context(NAME)))
        for trustee, each in zip(trustees, keys, strict=True)
    }
    for pair in ((1, 2), (1, 3), (2, 3)):
        partials = {holder: shares[holder].partial(made, total, NONCE) for holder in pair}
        assert made.combine(layout, 1, total, partials, NONCE)["amount"].round().tolist() == [3, 4]


async def test_steps_are_repeated_but_not_done_anew(trustees: list[Trustee]) -> None:
    ceremony, parts = await begun(trustees)
    first, _ = await step(ceremony, parts, 1, [])
    assert (await step(ceremony, parts, 1, []))[0] == first
    second, _ = await step(ceremony, parts, 2, first)
    assert (await step(ceremony, parts, 2, first[::-1]))[0] == second
    with pytest.raises(FinSecureError) as caught:
        await parts[0].advance(OPERATOR, ceremony, 4, second)
    assert caught.value.code in ("CEREMONY_ORDER", "MESSAGE_UNSIGNED")
    with pytest.raises(FinSecureError) as caught:
        await parts[0].advance(OPERATOR, ceremony, 3, second[:2])
    assert caught.value.code == "CEREMONY_INCOMPLETE"


async def test_a_finished_ceremony_survives_a_restart_and_an_unfinished_one_does_not(
    trustees: list[Trustee],
) -> None:
    ceremony, parts = await begun(trustees)
    fourth, _ = await run_to(ceremony, parts, LAST_STEP - 1)
    _, held = await parts[0].advance(OPERATOR, ceremony, LAST_STEP, fourth)
    assert held is not None
    again = trustees[0].ceremonies()
    assert await again.advance(OPERATOR, ceremony, LAST_STEP, fourth) == (None, held)
    holdings = trustees[0].holdings
    assert holdings.endorse(held).signature == trustees[0].holdings.endorse(held).signature
    with pytest.raises(FinSecureError) as caught:
        await trustees[1].ceremonies().advance(OPERATOR, ceremony, LAST_STEP, fourth)
    assert caught.value.code == "CEREMONY_ORDER"


Bend = Callable[[list[CeremonyMessage]], list[CeremonyMessage]]


@pytest.mark.parametrize(
    ("last", "bend", "reason"),
    [
        (1, lambda m: [replace(m[0], content=m[1].content), *m[1:]], "MESSAGE_UNSIGNED"),
        (1, lambda m: [replace(m[0], signature=bytes(64)), *m[1:]], "MESSAGE_UNSIGNED"),
        (1, lambda m: [m[0], replace(m[0], holder=2), m[2]], "MESSAGE_UNSIGNED"),
        (3, lambda m: [*m[:2], replace(m[2], secrets={})], "MESSAGE_UNSIGNED"),
        (3, lambda m: [*m[:2], replace(m[2], secrets=m[1].secrets)], "MESSAGE_UNSIGNED"),
        (1, lambda m: [m[0], m[0], m[2]], "CEREMONY_INCOMPLETE"),
        (1, lambda m: [], "CEREMONY_INCOMPLETE"),
    ],
)
async def test_what_the_operator_changes_is_noticed(
    trustees: list[Trustee], last: int, bend: Bend, reason: str
) -> None:
    ceremony, parts = await begun(trustees)
    messages, _ = await run_to(ceremony, parts, last)
    with pytest.raises(FinSecureError) as caught:
        await parts[0].advance(OPERATOR, ceremony, last + 1, bend(messages))
    assert caught.value.code == reason


async def test_a_holder_that_breaks_the_protocol_ends_the_ceremony(
    trustees: list[Trustee],
) -> None:
    ceremony, parts = await begun(trustees)
    first, _ = await step(ceremony, parts, 1, [])
    second, _ = await step(ceremony, parts, 2, first)
    # The second trustee opens its commitment to another seed, under its own signature.
    lie = replace(second[1], content=second[1].content[:-1] + bytes([second[1].content[-1] ^ 1]))
    key_of_second = trustees[1].identities.current().signing_key
    lie = replace(lie, signature=key_of_second.sign(*lie.statement(ceremony.digest())))
    with pytest.raises(FinSecureError) as caught:
        await parts[0].advance(OPERATOR, ceremony, 3, [second[0], lie, second[2]])
    assert (caught.value.code, caught.value.culprit) == ("COMMITMENT_BROKEN", "2")
    with pytest.raises(FinSecureError) as caught:
        await parts[0].advance(OPERATOR, ceremony, 3, second)
    assert caught.value.code == "CEREMONY_ABORTED"


async def test_secrets_are_sealed_to_their_receiver(trustees: list[Trustee]) -> None:
    ceremony, parts = await begun(trustees)
    messages, _ = await run_to(ceremony, parts, 3)
    for message in messages:
        ((receiver, sealed),) = message.secrets.items()
        assert receiver == message.holder % 3 + 1
        assert len(sealed) > 1000


async def test_strangers_and_outsiders_make_no_key(
    federation: Federation, trustees: list[Trustee], tmp_path: Path
) -> None:
    ceremony, parts = await begun(trustees)
    forged = replace(ceremony.trustees[1], sealing_key=bytes(range(1, 33)))
    swapped = replace(ceremony, trustees=(ceremony.trustees[0], forged, ceremony.trustees[2]))
    with pytest.raises(FinSecureError) as caught:
        await parts[0].advance(OPERATOR, swapped, 1, [])
    assert caught.value.code == "CARD_UNSIGNED"
    outsider = make_trustee(tmp_path / "t4", federation.pki, 4)
    with pytest.raises(FinSecureError) as caught:
        await outsider.ceremonies().advance(OPERATOR, ceremony, 1, [])
    assert caught.value.code == "NOT_INVITED"
    outsider.database.close()
    elsewhere = replace(ceremony, key_name="federations/cards/encryptionKeys/made")
    with pytest.raises(FinSecureError) as caught:
        await parts[0].advance(OPERATOR, elsewhere, 1, [])
    assert caught.value.code == "FEDERATION_MISMATCH"
    with pytest.raises(FinSecureError) as caught:
        await parts[0].advance(OPERATOR, replace(ceremony, mode=Mode.PAILLIER), 1, [])
    assert caught.value.code == "NO_DISTRIBUTED_GENERATION"


async def sealed_share(trustee: Trustee, holder: int, owner: str | None = None) -> DealtShare:
    card = await trustee.holdings.card(OPERATOR)
    context = dealt_share_context(NAME, key().digest(), holder, owner or trustee.id)
    sealed = sealing.seal(card.sealing_key, share(holder).serialise(), context)
    return DealtShare(NAME, Mode.PAILLIER, key().serialise(), sealed, holder)


async def test_a_dealt_share_is_opened_checked_and_kept_once(trustees: list[Trustee]) -> None:
    trustee = trustees[1]
    dealt_share = await sealed_share(trustee, 2)
    held = await trustee.dealt_shares.take_in(OPERATOR, dealt_share)
    assert (held.holder, held.description.generation) == (2, Generation.DEALER)
    again = trustee.restarted()
    assert await again.dealt_shares.take_in(OPERATOR, await sealed_share(again, 2)) == held
    other = replace(dealt_share, public_key=dealt(3072).key.serialise())
    with pytest.raises(FinSecureError) as caught:
        await again.dealt_shares.take_in(OPERATOR, other)
    assert caught.value.code == "CIPHERTEXT_REJECTED"
    again.database.close()


async def test_a_dealer_is_trusted_only_where_the_owner_says_so(trustees: list[Trustee]) -> None:
    wary = replace(trustees[0], dealt_keys=False)
    with pytest.raises(FinSecureError) as caught:
        await wary.dealt_shares.take_in(OPERATOR, await sealed_share(wary, 1))
    assert caught.value.code == "DEALT_KEYS_REFUSED"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda t: sealed_share(t, 1, "trustee-2"), "CIPHERTEXT_REJECTED"),
        (lambda t: _bent(t, lambda d: replace(d, holder=2)), "CIPHERTEXT_REJECTED"),
        (
            lambda t: _bent(t, lambda d: replace(d, sealed_share=d.sealed_share[:-1])),
            "CIPHERTEXT_REJECTED",
        ),
        (lambda t: _bent(t, lambda d: replace(d, public_key=b"no key")), "KEY_MALFORMED"),
        (lambda t: _bent(t, lambda d: replace(d, mode=Mode.BGV)), "DEALT_KEY_MODE"),
        (lambda t: _bent(t, lambda d: replace(d, mode=Mode.CKKS)), "DEALT_KEY_MODE"),
        (lambda t: _wrong_share(t), "SHARE_INVALID"),
    ],
)
async def test_a_wrong_dealt_share_is_refused(
    trustees: list[Trustee], make: Callable[[Trustee], Awaitable[DealtShare]], reason: str
) -> None:
    wrong = await make(trustees[0])
    with pytest.raises(FinSecureError) as caught:
        await trustees[0].dealt_shares.take_in(OPERATOR, wrong)
    assert caught.value.code == reason


async def _bent(trustee: Trustee, bend: Callable[[DealtShare], DealtShare]) -> DealtShare:
    return bend(await sealed_share(trustee, 1))


async def _wrong_share(trustee: Trustee) -> DealtShare:
    """The dealer mixes two shares up."""
    card = await trustee.holdings.card(OPERATOR)
    context = dealt_share_context(NAME, key().digest(), 1, trustee.id)
    sealed = sealing.seal(card.sealing_key, share(2).serialise(), context)
    return DealtShare(NAME, Mode.PAILLIER, key().serialise(), sealed, 1)


async def test_a_revoked_trustee_makes_no_key(tmp_path: Path) -> None:
    from cryptography import x509

    from tests.support.pki import TestAuthority

    pki = TestAuthority()
    trustees = [make_trustee(tmp_path / f"r{holder}", pki, holder) for holder in (1, 2, 3)]
    ceremony, parts = await begun(trustees)
    certificate = x509.load_der_x509_certificate(ceremony.trustees[2].certificate)
    pki.revoke(certificate.serial_number)
    with pytest.raises(AuthenticationError) as caught:
        await parts[0].advance(OPERATOR, ceremony, 1, [])
    assert (caught.value.code, caught.value.culprit) == ("CERTIFICATE_REVOKED", "trustee-3")
    for trustee in trustees:
        trustee.database.close()


async def test_ceremonies_run_side_by_side(trustees: list[Trustee]) -> None:
    first, parts = await begun(trustees)
    second = replace(first, key_name=NAME + "-2", nonce=bytes(32))
    await asyncio.gather(run_to(first, parts, LAST_STEP), run_to(second, parts, LAST_STEP))
    third = replace(first, nonce=bytes([1]) * 32)
    with pytest.raises(FinSecureError) as caught:
        await parts[0].advance(OPERATOR, third, 1, [])
    assert caught.value.code == "KEY_EXISTS"
