"""The seal and the shares that open it: enough of them, and nothing else."""

import itertools
import zlib

import pytest
from finsecure_crypto import transcript
from finsecure_crypto.errors import AuthenticationError, IntegrityError, InvalidArgumentError
from finsecure_crypto.key_seal import KeySeal, NewSeal, OperatorShare, SealedSecret, is_sealed
from finsecure_crypto.secret import SecretBytes
from hypothesis import given
from hypothesis import strategies as st

SECRET = SecretBytes(b"1 " + b"ab" * 32 + b"\n")


def _opened(made: NewSeal, content: bytes, shares: tuple[OperatorShare, ...]) -> SecretBytes:
    sealed = SealedSecret.parse(content)
    return sealed.open(sealed.seal.combine(shares), "file")


@pytest.mark.parametrize(("threshold", "count"), [(2, 2), (2, 3), (3, 5), (5, 5), (16, 16)])
def test_every_threshold_of_shares_opens_and_one_fewer_does_not(threshold: int, count: int) -> None:
    made = KeySeal.create(threshold, count)
    content = made.seal.close(made.key, SECRET, "file")
    for shares in itertools.islice(itertools.combinations(made.shares, threshold), 20):
        assert _opened(made, content, shares) == SECRET
        assert _opened(made, content, tuple(reversed(shares))) == SECRET
        with pytest.raises(InvalidArgumentError, match="SHARES_TOO_FEW"):
            made.seal.combine(shares[1:])
        with pytest.raises(InvalidArgumentError, match="SHARES_TOO_FEW"):
            made.seal.combine((*shares[1:], shares[1]))  # the same twice counts once
    assert _opened(made, content, made.shares) == SECRET


@pytest.mark.parametrize(("threshold", "count"), [(0, 3), (1, 3), (4, 3), (2, 17)])
def test_no_seal_that_one_person_opens_or_nobody(threshold: int, count: int) -> None:
    with pytest.raises(InvalidArgumentError, match="SHARE_THRESHOLD"):
        KeySeal.create(threshold, count)


def test_a_key_from_too_few_shares_opens_nothing() -> None:
    # Who leaves the check out and interpolates two of three shares gets a key that is of no use.
    made = KeySeal.create(3, 3)
    content = made.seal.close(made.key, SECRET, "file")
    fewer = KeySeal(made.seal.set_id, 2, made.seal.digests)
    key = fewer.combine(made.shares[:2])
    assert key != made.key
    with pytest.raises(IntegrityError, match="SEAL_DAMAGED"):
        SealedSecret.parse(content).open(key, "file")


def test_foreign_and_wrong_shares_are_refused_by_their_number() -> None:
    made, other = KeySeal.create(2, 3), KeySeal.create(2, 3)
    with pytest.raises(AuthenticationError, match=r"share 1 .*SHARE_OF_ANOTHER_SET") as caught:
        made.seal.check(other.shares[0])
    assert other.shares[0].expose() not in str(caught.value)
    set_id = made.seal.set_id
    forged = OperatorShare(set_id, 1, other.shares[0].value)
    moved = OperatorShare(set_id, 2, made.shares[0].value)
    beyond = OperatorShare(set_id, 4, made.shares[0].value)
    for wrong in (forged, moved, beyond):
        with pytest.raises(AuthenticationError, match=f"share {wrong.number} .*SHARE_REJECTED"):
            made.seal.check(wrong)
        with pytest.raises(AuthenticationError, match="SHARE_REJECTED"):
            made.seal.combine((made.shares[1], wrong))


# Lengths that leave base64 all numbers of spare bits.
@pytest.mark.parametrize("length", [48, 49, 50])
def test_every_changed_byte_of_a_sealed_secret_is_noticed(length: int) -> None:
    made = KeySeal.create(2, 3)
    secret = SecretBytes(bytes(range(1, length + 1)))
    content = made.seal.close(made.key, secret, "file")
    assert is_sealed(content)
    assert secret.expose()[:16] not in content
    assert all(share.value.expose() not in content for share in made.shares)
    for at in range(len(content)):
        for bit in (1, 2, 4):
            changed = content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
            with pytest.raises(IntegrityError, match="SEAL_DAMAGED"):
                SealedSecret.parse(changed).open(made.key, "file")
    lines = content.splitlines(keepends=True)
    swapped = b"".join([*lines[:3], lines[4], lines[3], *lines[5:]])
    shorter = b"".join([*lines[:5], *lines[6:]])
    easier = content.replace(b"threshold 2", b"threshold 3")
    for changed in (swapped, shorter, easier, content[:-1], content + b"\n", b""):
        with pytest.raises(IntegrityError, match="SEAL_DAMAGED"):
            SealedSecret.parse(changed).open(made.key, "file")
    with pytest.raises(IntegrityError, match="SEAL_DAMAGED"):
        SealedSecret.parse(content).open(made.key, "pkcs11")
    with pytest.raises(IntegrityError, match="SEAL_DAMAGED"):
        SealedSecret.parse(content).open(KeySeal.create(2, 3).key, "file")


def test_the_digest_of_a_share_is_that_of_its_specification() -> None:
    share = OperatorShare("00" * 8, 3, SecretBytes(bytes(36)))
    encoded = transcript.encode("unseal-share", "00" * 8, 3, bytes(36))
    assert share.digest == transcript.digest("unseal-share", "00" * 8, 3, bytes(36))
    assert encoded.startswith(bytes([0, 0, 0, 0, 0, 0, 0, 25]) + b"finsecure/v1/unseal-share")
    text = f"fsu_{'00' * 8}_3_{'A' * 48}"
    assert share.expose() == f"{text}_{zlib.crc32(text.encode()):08x}"


SHARES = KeySeal.create(2, 16).shares


@given(st.sampled_from(SHARES), st.text(" \t\r\n", max_size=3))
def test_a_share_survives_its_text(share: OperatorShare, blank: str) -> None:
    assert OperatorShare.parse(blank + share.expose() + blank) == share
    assert "fsu_" not in repr(share)
    assert share.expose()[23:71] not in repr(share)


@given(st.sampled_from(SHARES), st.data())
def test_no_changed_text_is_a_share(share: OperatorShare, data: st.DataObject) -> None:
    text = share.expose()
    at = data.draw(st.integers(0, len(text) - 1))
    end = at + data.draw(st.integers(0, 2))
    changed = text[:at] + data.draw(st.text(max_size=2)) + text[end:]
    if changed.strip() == text:
        return
    with pytest.raises(InvalidArgumentError, match="SHARE_MALFORMED") as caught:
        OperatorShare.parse(changed)
    assert text[23:60] not in str(caught.value)


@given(
    st.text(max_size=300)
    | st.from_regex(r"fsu_[0-9a-f]{16}_[0-9]{1,3}_[A-Za-z0-9_-]{48}_[0-9a-f]{8}", fullmatch=True)
)
def test_text_is_refused_or_has_exactly_this_spelling(text: str) -> None:
    try:
        share = OperatorShare.parse(text)
    except InvalidArgumentError as error:
        assert error.code == "SHARE_MALFORMED"  # noqa: PT017
    else:
        assert share.expose() == text.strip()


def test_a_right_checksum_makes_no_share_of_what_is_none() -> None:
    for body in (
        f"fsu_{'0' * 16}_17_{'A' * 48}",  # no such number
        f"fsu_{'0' * 16}_01_{'A' * 48}",  # another spelling of 1
        f"fsu_{'0' * 16}_1_{'_' * 48}",  # not elements of the field
    ):
        with pytest.raises(InvalidArgumentError, match="SHARE_MALFORMED"):
            OperatorShare.parse(f"{body}_{zlib.crc32(body.encode()):08x}")
