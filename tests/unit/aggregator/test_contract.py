"""The policy covers the wire contract, the example configuration parses, names are strict."""

from pathlib import Path

import pytest
from finsecure.aggregation.v1 import models_pb2, participation_pb2, sums_pb2, tasks_pb2
from finsecure_aggregator.config import Arithmetic, Configuration, EncryptionSettings, SumSettings
from finsecure_aggregator.instructions import Instruction
from finsecure_aggregator.names import Names
from finsecure_aggregator.policy import LIMITS, POLICY
from finsecure_aggregator.records import RoundKey, RoundState, TaskState
from finsecure_aggregator.wire.client_messages import client_message
from finsecure_aggregator.wire.instructions import InstructionWriter
from finsecure_aggregator.wire.rounds import state_to_wire
from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError, NotFoundError
from finsecure_crypto.secagg import messages
from finsecure_rpc.config import load
from finsecure_rpc.policy import undeclared
from finsecure_rpc.status import InvalidMessageError
from finsecure_rpc.validation import check_message

EXAMPLE = Path(__file__).parents[3] / "services" / "aggregator" / "config.example.toml"


def test_every_method_says_who_may_call_it():
    assert not undeclared(POLICY, models_pb2, participation_pb2, sums_pb2, tasks_pb2)
    assert LIMITS.deadlines.keys() <= POLICY.keys()


def test_the_example_configuration_is_complete_and_shows_the_defaults():
    example = load(EXAMPLE, Configuration)
    text = EXAMPLE.read_text()
    for name, field in Configuration.model_fields.items():
        assert any(
            f"\n{form}" in text
            for form in (
                f"{name} = ",
                f"[{name}]\n",
                f"# [[{name}]]",
                f"# [{name}]\n",
                f"# {name} = ",
            )
        )
        if not field.is_required():
            assert getattr(example, name) == field.default
    for name in (
        *Arithmetic.model_fields,
        *EncryptionSettings.model_fields,
        *SumSettings.model_fields,
    ):
        assert f"\n{name} = " in text or f"\n# {name} = " in text
    assert example.identity_dir == EXAMPLE.parent / "aggregator" / "identity"
    assert example.database == f"sqlite:///{EXAMPLE.parent}/aggregator/aggregator.db"


def test_an_unknown_key_is_named(tmp_path):
    path = tmp_path / "aggregator.toml"
    path.write_text(EXAMPLE.read_text() + "\nsetle_s = 3\n")
    with pytest.raises(ConfigurationError, match="setle_s"):
        load(path, Configuration)


def test_states_have_names_on_the_wire():
    for state in RoundState:
        assert state_to_wire(state)
    for task_state in TaskState:
        assert tasks_pb2.TaskState.Value(f"TASK_STATE_{task_state.name}")


TASK = "federations/lending/tasks/credit"


NAMES = Names("lending")


def test_names_are_read():
    assert NAMES.federation("federations/lending") == "federations/lending"
    assert NAMES.task(TASK) == TASK
    assert NAMES.round(f"{TASK}/rounds/0-12") == RoundKey(TASK, 0, 12)
    assert NAMES.model(f"{TASK}/models/latest") == (TASK, None)
    assert NAMES.model(f"{TASK}/models/7") == (TASK, 7)
    assert NAMES.sum("federations/lending/sums/fraud") == "federations/lending/sums/fraud"
    assert RoundKey(TASK, 3, 2).name == f"{TASK}/rounds/3-2"


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (NAMES.federation, "federations/Lending"),
        (NAMES.federation, "federations/lending\n"),
        (NAMES.task, "federations/lending/tasks/../../etc"),
        (NAMES.task, "federations/lending/tasks/a/b"),
        (NAMES.round, f"{TASK}/rounds/1"),
        (NAMES.round, f"{TASK}/rounds/01-1"),
        (NAMES.round, f"{TASK}/rounds/1-0"),
        (NAMES.round, f"{TASK}/rounds/1-9999999"),
        (NAMES.model, f"{TASK}/models/-1"),
        (NAMES.model, f"{TASK}/models/\uff11"),
        (NAMES.sum, "federations/lending/sums/a/b"),
    ],
)
def test_other_names_are_refused(read, name):
    with pytest.raises(InvalidArgumentError) as failure:
        read(name)
    assert failure.value.code == "NAME_MALFORMED"


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (NAMES.federation, "federations/others"),
        (NAMES.task, "federations/others/tasks/credit"),
        (NAMES.round, "federations/others/tasks/credit/rounds/0-1"),
        (NAMES.model, "federations/others/tasks/credit/models/latest"),
        (NAMES.sum, "federations/others/sums/fraud"),
    ],
)
def test_names_of_other_federations_are_refused(read, name):
    with pytest.raises(NotFoundError) as failure:
        read(name)
    assert failure.value.code == "FEDERATION_NOT_FOUND"


def test_packed_messages_are_read_as_they_are():
    """What their bytes mean depends on the roster, which only the protocol's core knows."""
    shares = participation_pb2.ShareKeysRequest(
        ciphertexts=b"c" * 216, self_mask_commitment=b"m" * 32, signature=b"s" * 64
    )
    assert client_message(RoundState.SHARE_KEYS, shares.SerializeToString()) == messages.KeyShares(
        b"c" * 216, b"m" * 32, b"s" * 64
    )
    revealed = participation_pb2.RevealSharesRequest(
        self_mask_shares=b"b" * 72, mask_key_shares=b"k" * 36, unreadable=b"\x01"
    )
    assert client_message(
        RoundState.REVEAL_SHARES, revealed.SerializeToString()
    ) == messages.RevealedShares(b"b" * 72, b"k" * 36, b"\x01")


@pytest.mark.parametrize(
    "message",
    [
        participation_pb2.ShareKeysRequest(ciphertexts=bytes(107)),
        participation_pb2.ShareKeysRequest(ciphertexts=bytes(10_800_001)),
        participation_pb2.RevealSharesRequest(self_mask_shares=bytes(3_600_001)),
        participation_pb2.RevealSharesRequest(mask_key_shares=bytes(3_600_001)),
        participation_pb2.RevealSharesRequest(unreadable=bytes(12_501)),
    ],
    ids=lambda message: message.ListFields()[0][0].name,
)
def test_packed_messages_are_bounded_at_the_edge(message):
    message.round = f"{TASK}/rounds/1-1"
    if isinstance(message, participation_pb2.ShareKeysRequest):
        message.self_mask_commitment, message.signature = bytes(32), bytes(64)
    with pytest.raises(InvalidMessageError) as failure:
        check_message(message)
    assert message.ListFields()[1][0].name in str(failure.value.violations)


def roster_for(index, size=4):
    entries = [
        messages.RosterEntry(
            i, messages.KeyAdvertisement(f"bank-{i}", b"c" * 32, b"m" * 32, b"s", b"x"), (b"p",)
        )
        for i in range(size)
    ]
    shown = [entry for entry in entries if abs(entry.index - index) <= 1]
    return messages.Roster(size, b"r" * 32, index, tuple(shown))


def test_each_client_is_shown_its_own_part_of_a_roster():
    key, writer = RoundKey(TASK, 1, 1), InstructionWriter()
    for index in (0, 2, 3, 0):
        roster = roster_for(index)
        item = Instruction(key, RoundState.SHARE_KEYS, 10**9, roster)
        shown = writer.write(item).share_keys
        assert (shown.size, shown.root, shown.index) == (4, b"r" * 32, index)
        assert [entry.index for entry in shown.entries] == [e.index for e in roster.entries]
        assert [e.advertisement.client for e in shown.entries] == [
            e.advertisement.client for e in roster.entries
        ]
        assert all(list(entry.inclusion_proof) == [b"p"] for entry in shown.entries)


def test_rosters_of_two_rounds_are_not_mixed_up():
    writer = InstructionWriter()
    rosters = {RoundKey(TASK, 1, attempt): roster_for(attempt) for attempt in (1, 2)}
    one, other = (
        writer.write(Instruction(key, RoundState.SHARE_KEYS, 0, roster)).share_keys
        for key, roster in rosters.items()
    )
    assert [entry.index for entry in one.entries] == [0, 1, 2]
    assert [entry.index for entry in other.entries] == [1, 2, 3]
    key = RoundKey(TASK, 1, 1)
    writer.write(Instruction(key, RoundState.CONFIRM_SURVIVORS, 0, b"\x01"))
    changed = messages.KeyAdvertisement("bank-9", b"c" * 32, b"m" * 32, b"s", b"x")
    roster = messages.Roster(4, b"r" * 32, 0, (messages.RosterEntry(0, changed),))
    again = writer.write(Instruction(key, RoundState.SHARE_KEYS, 0, roster)).share_keys
    assert again.entries[0].advertisement.client == "bank-9"
