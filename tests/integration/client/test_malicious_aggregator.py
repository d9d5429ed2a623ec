"""An aggregator that cheats: each lie makes the client leave the round and reveal nothing."""

import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from finsecure.aggregation.v1 import tasks_pb2
from finsecure.aggregation.v1.participation_pb2 import ShareDelivery
from finsecure_crypto.errors import StateError
from finsecure_crypto.secagg.phases import Phase
from finsecure_crypto.signing import SigningKey

from tests.support.client import TASK, ConstantTrainer
from tests.support.client_federation import running_federation

BANKS = ["bank-a", "bank-b", "bank-c", "bank-d"]
VICTIM = "bank-a"
ROUND = f"{TASK}/rounds/1-1"


def methods(federation, client=VICTIM):
    return [method for method, who, _ in federation.aggregator.received if who == client]


async def lie(federation, change, kind, **policy):
    """Run a round in which `change` bends what the victim is told in one kind of instruction."""

    def twist(client, instruction):
        if client == VICTIM and instruction.WhichOneof("instruction") == kind:
            return change(instruction) or instruction
        return instruction

    for bank in BANKS:
        federation.start(bank, **(policy if bank == VICTIM else {}))
    await federation.aggregator.available(4)
    federation.aggregator.phase_s = 3
    federation.aggregator.twist = twist
    with suppress(StateError):  # too few are left
        await federation.aggregator.run_round(BANKS)


def declined(federation):
    return federation.aggregator.declined.get((ROUND, VICTIM))


def set_field(path, value):
    def change(instruction):
        *parents, last = path.split(".")
        place = instruction
        for parent in parents:
            place = getattr(place, parent)
        setattr(place, last, value)

    return change


INVITATION = [
    ("task.name", "federations/lending/tasks/other", "ROUND_NAME_MISMATCH"),
    ("number", 2, "ROUND_NAME_MISMATCH"),
    ("attempt", 2, "ROUND_NAME_MISMATCH"),
    ("invited", 2, "COHORT_BOUNDS"),
    ("invited", 11, "COHORT_ABOVE_TASK"),
    ("attempt_nonce", b"short", "DIGEST_LENGTH"),
    ("kind", tasks_pb2.ROUND_KIND_STATISTICS, "ROUND_NOT_ALLOWED"),
    ("kind", tasks_pb2.ROUND_KIND_UNSPECIFIED, "MESSAGE_INVALID"),
    ("task.spec.encoding.value_bits", 7, "MESSAGE_INVALID"),
    ("base_model.sha256", bytes(32), "MODEL_SIGNATURE_REJECTED"),
    ("base_model.signature", bytes(64), "MODEL_SIGNATURE_REJECTED"),
    ("base_model.size_bytes", 1 << 40, "MODEL_SIGNATURE_REJECTED"),
    ("base_model.version", 7, "ROUND_NAME_MISMATCH"),
    ("base_model.name", "federations/lending/tasks/other/models/0", "ROUND_NAME_MISMATCH"),
]


@pytest.mark.parametrize(("path", "value", "code"), INVITATION)
async def test_bent_invitation(federation, path, value, code):
    await lie(federation, set_field(f"advertise_keys.{path}", value), "advertise_keys")
    assert "AdvertiseKeys" not in methods(federation)
    assert declined(federation) == code


async def test_invitation_that_breaks_the_contract(federation):
    change = set_field("advertise_keys.task.spec.training.learning_rate", -1.0)
    await lie(federation, change, "advertise_keys")
    assert set(methods(federation)) == {"GetTask", "Watch", "DeclineRound"}
    assert declined(federation) == "MESSAGE_INVALID"


@pytest.mark.parametrize(
    ("path", "value", "policy", "code"),
    [
        ("cohort.minimum", 3, {"minimum_cohort": 4}, "COHORT_BELOW_POLICY"),
        ("cohort.minimum", 3, {"minimum_threshold": 4}, "THRESHOLD_BELOW_POLICY"),
        (
            "security.profile",
            tasks_pb2.SECURITY_PROFILE_SEMI_HONEST,
            {},
            "PROFILE_BELOW_POLICY",
        ),
        ("rounds", 3, {"maximum_rounds": 2}, "ROUNDS_ABOVE_POLICY"),
        ("training.epochs", 21, {}, "EPOCHS_ABOVE_POLICY"),
        ("rounds", 3, {"tasks": ("fraud-*",)}, "TASK_NOT_ALLOWED"),
    ],
)
async def test_terms_below_the_policy(federation, path, value, policy, code):
    # The victim joins while the task is fine, and is then invited on other terms.
    change = set_field(f"advertise_keys.task.spec.{path}", value)
    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    strict = federation.config(VICTIM, **policy)
    await federation.stop(VICTIM)
    federation.aggregator.phase_s = 3
    federation.aggregator.twist = lambda who, instruction: (
        (change(instruction) or instruction)
        if who == VICTIM and instruction.HasField("advertise_keys")
        else instruction
    )
    federation.start_unchecked(VICTIM, strict)
    await federation.aggregator.available(4)
    await federation.aggregator.run_round(BANKS)
    assert declined(federation) == code
    assert "AdvertiseKeys" not in methods(federation)


async def test_a_cohort_below_the_federations_minimum(federation):
    federation.keyservice.minima.demand(4)
    await lie(federation, lambda instruction: None, "advertise_keys")
    assert declined(federation) == "COHORT_BELOW_FEDERATION_MINIMUM"
    assert "AdvertiseKeys" not in methods(federation)


async def test_a_key_service_that_says_a_minimum_which_its_log_does_not_have(federation):
    federation.keyservice.minima.demand(3, published=False)
    await lie(federation, lambda instruction: None, "advertise_keys")
    assert declined(federation) == "MINIMUM_COHORT_NOT_PUBLISHED"
    assert "AdvertiseKeys" not in methods(federation)


async def test_an_own_minimum_that_no_federation_lowers(federation):
    federation.keyservice.minima.demand(2)
    await lie(federation, lambda instruction: None, "advertise_keys", minimum_cohort=4)
    assert declined(federation) == "COHORT_BELOW_POLICY"


async def test_a_round_may_demand_more_than_its_task(federation):
    federation.keyservice.minima.demand(4)
    for bank in BANKS:
        federation.start(bank, minimum_cohort=4)
    await federation.aggregator.available(4)
    await federation.aggregator.run_round(BANKS, minimum_cohort=4)
    assert not federation.aggregator.declined


async def test_a_minimum_that_one_client_alone_is_shown(federation):
    # It stands in the context of all keys: the peers' signatures do not verify under another one.
    await lie(federation, set_field("advertise_keys.minimum_cohort", 4), "advertise_keys")
    assert "ShareKeys" not in methods(federation)


async def test_signature_of_somebody_else_than_the_aggregator(federation):
    fake = federation.aggregator
    honest = fake.store
    fake.store = federation.pki.enrol(federation.folder / "thief", "client", "thief")
    fake.publish_model({"weight": np.zeros((1, 4), np.float32), "bias": np.zeros(1, np.float32)})
    fake.store = honest
    await lie(federation, lambda instruction: None, "advertise_keys")
    assert declined(federation) == "CERTIFICATE_UNTRUSTED"


async def test_model_of_a_revoked_aggregator(federation):
    fake = federation.aggregator
    signing = fake.store.current().signing.serial
    fake.pki.enrol(fake.store.folder, "aggregator", "main")
    await federation.keyservice.revoke(signing)
    await lie(federation, lambda instruction: None, "advertise_keys")
    assert declined(federation) == "CERTIFICATE_REVOKED"


async def test_key_swap_in_the_roster(federation):
    def change(instruction):
        entry = instruction.share_keys.entries[1].advertisement
        entry.mask_key, entry.channel_key = entry.channel_key, entry.mask_key

    await lie(federation, change, "share_keys")
    assert "ShareKeys" not in methods(federation)
    assert declined(federation) is not None


async def test_made_up_client_in_the_roster(federation):
    def change(instruction):
        stranger = federation.pki.credentials(federation.pki.spiffe_id("client", "bank-b"))
        entry = instruction.share_keys.entries[1].advertisement
        entry.certificate = stranger.signing_certificate

    await lie(federation, change, "share_keys")
    assert declined(federation) == "ROSTER_ROOT"


async def test_revoked_peer_in_the_roster(federation):
    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    federation.aggregator.phase_s = 3
    # The aggregator goes on with a client whose revocation the others have heard of.
    serial = federation.peer_serial("bank-d")
    federation.pki.revoked.add(serial)
    await federation.keyservice.publish()
    await federation.until_revoked(serial, BANKS[:3])
    with pytest.raises(StateError, match="TOO_FEW"):
        await federation.aggregator.run_round(BANKS)
    assert declined(federation) == "CERTIFICATE_REVOKED"


async def test_replayed_roster(federation):
    rosters = {}

    def keep(client, instruction):
        if instruction.HasField("share_keys"):
            if client in rosters and client == VICTIM:
                instruction.share_keys.CopyFrom(rosters[client])
            else:
                rosters[client] = instruction.share_keys
        return instruction

    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    federation.aggregator.twist = keep
    await federation.aggregator.run_round(BANKS)
    federation.aggregator.phase_s = 3
    await federation.aggregator.run_round(BANKS, attempt=2)
    assert federation.aggregator.declined[f"{TASK}/rounds/1-2", VICTIM]


@pytest.mark.parametrize("sharers", [b"\x07", b"\x0e", b"\x03", b"\xff", b"\x0f\x00", b""])
async def test_inconsistent_sharers(federation, sharers):
    await lie(federation, set_field("submit_input.sharers", sharers), "submit_input")
    assert "SubmitInput" not in methods(federation)
    assert declined(federation) is not None


@pytest.mark.parametrize("survivors", [b"\x0e", b"\x03", b"\x1f", b"\x0f\x00", b""])
async def test_wrong_survivors(federation, survivors):
    await lie(federation, set_field("confirm_survivors.survivors", survivors), "confirm_survivors")
    assert "ConfirmSurvivors" not in methods(federation)
    assert "RevealShares" not in methods(federation)
    assert declined(federation) is not None


async def test_split_view_of_the_survivors(federation):
    # The victim is shown other survivors than the rest: it cannot be made to reveal.
    await lie(federation, set_field("confirm_survivors.survivors", b"\x07"), "confirm_survivors")
    assert "RevealShares" not in methods(federation)


async def test_forged_confirmations(federation):
    def change(instruction):
        signers = len(instruction.reveal_shares.signatures) // 64
        forged = [SigningKey.generate().sign("survivors", b"") for _ in range(signers)]
        instruction.reveal_shares.signatures = b"".join(forged)

    await lie(federation, change, "reveal_shares")
    assert "RevealShares" not in methods(federation)
    assert declined(federation) == "SURVIVOR_SIGNATURE"


async def test_confirmation_counted_twice(federation):
    def change(instruction):
        signatures = instruction.reveal_shares.signatures
        instruction.reveal_shares.signatures = signatures[:64] + signatures[:-64]

    await lie(federation, change, "reveal_shares")
    assert "RevealShares" not in methods(federation)
    assert declined(federation) == "SURVIVOR_SIGNATURE"


@pytest.mark.parametrize(
    ("field", "change", "code"),
    [
        ("signatures", lambda right: right[:-64], "WRONG_SIGNERS"),
        ("signatures", lambda right: right + right[:64], "WRONG_SIGNERS"),
        ("signatures", lambda right: right + b"\x00", "WRONG_SIGNERS"),
        ("signers", lambda right: right + b"\x00", "BITMAP_MALFORMED"),
        ("signers", lambda right: b"", "BITMAP_MALFORMED"),
    ],
)
async def test_malformed_confirmations(federation, field, change, code):
    def bend(instruction):
        right = getattr(instruction.reveal_shares, field)
        setattr(instruction.reveal_shares, field, change(right))

    await lie(federation, bend, "reveal_shares")
    assert "RevealShares" not in methods(federation)
    assert declined(federation) == code


@pytest.mark.parametrize("change", [lambda right: right[:-1], lambda right: right + bytes(108)])
async def test_malformed_delivery(federation, change):
    def bend(instruction):
        instruction.submit_input.ciphertexts = change(instruction.submit_input.ciphertexts)

    await lie(federation, bend, "submit_input")
    assert "SubmitInput" not in methods(federation)
    assert declined(federation) == "WRONG_SHARE_SET"


@pytest.mark.parametrize("again", ["survivors", "sharers", "roster", "nonce"])
async def test_asking_twice_gets_nothing_new(federation, again):
    """A second, different instruction for a phase that was answered ends the round."""
    changes = {
        "survivors": ("confirm_survivors", set_field("confirm_survivors.survivors", b"\x07")),
        "sharers": ("submit_input", set_field("submit_input.sharers", b"\x07")),
        "roster": ("share_keys", set_field("share_keys.root", bytes(32))),
        "nonce": ("advertise_keys", set_field("advertise_keys.attempt_nonce", bytes(32))),
    }
    kind, change = changes[again]

    def twice(client, instruction):
        if client == VICTIM and instruction.WhichOneof("instruction") == kind:
            other = type(instruction)()
            other.CopyFrom(instruction)
            change(other)
            for queue in federation.aggregator._streams[client]:
                queue.put_nowait(instruction)
                queue.put_nowait(other)
            return None
        return instruction

    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    federation.aggregator.twist = twice
    federation.aggregator.phase_s = 4
    sums = await federation.aggregator.run_round(BANKS)
    assert declined(federation) == "INSTRUCTION_CHANGED"
    assert sums["weight"].tolist() in ([300], [400])
    answers = [method for method in methods(federation) if method == "ConfirmSurvivors"]
    assert len(answers) <= 1


async def test_skipped_phase(federation):
    def skip(client, instruction):
        if client == VICTIM and instruction.HasField("share_keys"):
            return None
        return instruction

    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    federation.aggregator.twist = skip
    federation.aggregator.phase_s = 2

    def early(opened):
        if opened is Phase.SUBMIT_MASKED_INPUT:
            delivery = ShareDelivery(sharers=b"\x0f")
            federation.aggregator.tell(
                VICTIM, federation.aggregator._instruction(submit_input=delivery)
            )

    await federation.aggregator.run_round(BANKS, on_phase=early)
    assert declined(federation) == "OUT_OF_ORDER"


async def test_finished_round_is_not_run_again(federation):
    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    await federation.aggregator.run_round(BANKS)
    before = len(methods(federation))
    federation.aggregator.phase_s = 1
    with pytest.raises(StateError, match="COHORT_TOO_SMALL"):
        await federation.aggregator.run_round(BANKS)
    assert "AdvertiseKeys" not in methods(federation)[before:]


async def everybody_declines(federation, code, **round_):
    federation.aggregator.phase_s = 2
    with pytest.raises(StateError, match="COHORT_TOO_SMALL"):
        await federation.aggregator.run_round(BANKS, **round_)
    assert set(federation.aggregator.declined.values()) == {code}


async def test_a_restart_does_not_make_a_client_forget_what_it_gave(federation):
    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    await federation.aggregator.run_round(BANKS, number=2)
    for bank in BANKS:
        await federation.stop(bank)
        federation.start(bank)
    await federation.aggregator.available(4)
    await everybody_declines(federation, "ROUND_REPEATED", number=2)
    await everybody_declines(federation, "ROUND_REPEATED", number=1, attempt=3)
    federation.aggregator.phase_s = 20
    await federation.aggregator.run_round(BANKS, number=2, attempt=2)


async def test_terms_that_change_between_rounds(federation):
    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    await federation.aggregator.run_round(BANKS)
    federation.aggregator.task.spec.features.features[0].numeric.maximum = 1
    await everybody_declines(federation, "TASK_CHANGED", number=2)


async def test_second_round_at_once(federation):
    """The round before is closed: two sums of one moment never open together."""

    def second(client, instruction):
        if client == VICTIM and instruction.HasField("submit_input"):
            other = federation.aggregator._instruction(advertise_keys=invitations[client])
            other.round = f"{TASK}/rounds/1-2"
            other.advertise_keys.attempt = 2
            for queue in federation.aggregator._streams[client]:
                queue.put_nowait(other)
        elif instruction.HasField("advertise_keys"):
            invitations[client] = instruction.advertise_keys
        return instruction

    invitations = {}
    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    federation.aggregator.twist = second
    federation.aggregator.phase_s = 3
    sums = await federation.aggregator.run_round(BANKS)
    assert sums["weight"].tolist() == [300]
    assert "SubmitInput" not in methods(federation)


async def test_flood_of_instructions(federation):
    """What waits is bounded; while the victim trains, nothing else reads it."""

    def flood(client, instruction):
        if client == VICTIM and instruction.HasField("submit_input"):
            for number in range(1000):
                other = type(instruction)()
                other.CopyFrom(instruction)
                other.deadline.nanos = 1000 * number
                for queue in federation.aggregator._streams[client]:
                    queue.put_nowait(other)
        return instruction

    trainer = ConstantTrainer(hook=lambda assignment: time.sleep(1))
    for bank in BANKS:
        federation.start(bank, trainer if bank == VICTIM else None)
    await federation.aggregator.available(4)
    federation.aggregator.twist = flood
    federation.aggregator.phase_s = 5
    await federation.aggregator.run_round(BANKS)
    assert declined(federation) == "TOO_MANY_INSTRUCTIONS"


async def test_damaged_chunks_are_fetched_anew(federation):
    bent = []

    def once(chunk):
        if len(bent) < 6 and chunk.offset:
            bent.append(chunk.offset)
            chunk.content = bytes(len(chunk.content))

    federation.aggregator.bend_chunk = once
    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    sums = await federation.aggregator.run_round(BANKS)
    assert sums["weight"].tolist() == [400]
    assert bent
    assert any(offset > 0 for offset in federation.aggregator.downloads)  # resumed


async def test_other_model_than_the_signed_one_is_refused(federation):
    def always(chunk):
        chunk.content = bytes(len(chunk.content))
        chunk.crc32 = zlib.crc32(chunk.content)

    federation.aggregator.bend_chunk = always
    federation.aggregator.phase_s = 30
    for bank in BANKS:
        federation.start(bank)
    await federation.aggregator.available(4)
    with pytest.raises(StateError, match="TOO_FEW_INPUTS"):
        await federation.aggregator.run_round(BANKS)
    assert set(federation.aggregator.declined.values()) == {"MODEL_DIGEST_MISMATCH"}
    assert not list(federation.folder.glob("*/state/models/*.safetensors"))


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": np.zeros((1, 5), np.float32), "bias": np.zeros(1, np.float32)},
        {"weight": np.zeros((1, 4), np.float64), "bias": np.zeros(1, np.float32)},
        {"weight": np.full((1, 4), np.nan, np.float32), "bias": np.zeros(1, np.float32)},
        {"weight": np.zeros((1, 4), np.float32)},
    ],
)
async def test_signed_model_of_the_wrong_shape(tmp_path, tensors):
    async with running_federation(tmp_path) as federation:
        federation.aggregator.publish_model(tensors)
        for bank in BANKS:
            federation.start(bank)
        await federation.aggregator.available(4)
        with pytest.raises(StateError, match="TOO_FEW_INPUTS"):
            await federation.aggregator.run_round(BANKS)
        assert len(federation.aggregator.declined) == 4
