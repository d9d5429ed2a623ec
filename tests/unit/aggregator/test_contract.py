"""The policy covers the wire contract, the example configuration parses, names are strict."""

from pathlib import Path

import pytest
from finsecure.aggregation.v1 import models_pb2, participation_pb2, tasks_pb2
from finsecure_aggregator import convert
from finsecure_aggregator.config import Arithmetic, Configuration
from finsecure_aggregator.policy import LIMITS, POLICY
from finsecure_aggregator.records import RoundKey, RoundState, TaskState
from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError, ProtocolViolationError
from finsecure_rpc.config import load
from finsecure_rpc.policy import undeclared

EXAMPLE = Path(__file__).parents[3] / "services" / "aggregator" / "config.example.toml"


def test_every_method_says_who_may_call_it():
    assert not undeclared(POLICY, models_pb2, participation_pb2, tasks_pb2)
    assert LIMITS.deadlines.keys() <= POLICY.keys()


def test_the_example_configuration_is_complete_and_shows_the_defaults():
    example = load(EXAMPLE, Configuration)
    text = EXAMPLE.read_text()
    for name, field in Configuration.model_fields.items():
        assert f"\n{name} = " in text or f"\n[{name}]\n" in text
        if not field.is_required():
            assert getattr(example, name) == field.default
    for name in Arithmetic.model_fields:
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
        assert convert.round_state(state)
    for task_state in TaskState:
        assert tasks_pb2.TaskState.Value(f"TASK_STATE_{task_state.name}")


TASK = "federations/lending/tasks/credit"


def test_names_are_read():
    assert convert.federation_of("federations/lending") == "lending"
    assert convert.task_name(TASK) == "lending"
    assert convert.round_key(f"{TASK}/rounds/0-12") == ("lending", RoundKey(TASK, 0, 12))
    assert convert.model_name(f"{TASK}/models/latest") == ("lending", TASK, None)
    assert convert.model_name(f"{TASK}/models/7") == ("lending", TASK, 7)
    assert RoundKey(TASK, 3, 2).name == f"{TASK}/rounds/3-2"


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (convert.federation_of, "federations/Lending"),
        (convert.federation_of, "federations/lending\n"),
        (convert.task_name, "federations/lending/tasks/../../etc"),
        (convert.task_name, "federations/lending/tasks/a/b"),
        (convert.round_key, f"{TASK}/rounds/1"),
        (convert.round_key, f"{TASK}/rounds/01-1"),
        (convert.round_key, f"{TASK}/rounds/1-0"),
        (convert.round_key, f"{TASK}/rounds/1-9999999"),
        (convert.model_name, f"{TASK}/models/-1"),
        (convert.model_name, f"{TASK}/models/\uff11"),
    ],
)
def test_other_names_are_refused(read, name):
    with pytest.raises(InvalidArgumentError) as failure:
        read(name)
    assert failure.value.code == "NAME_MALFORMED"


def test_a_message_that_names_a_client_twice_is_an_offence():
    share = participation_pb2.EncryptedShare(peer=1, ciphertext=b"x")
    payload = participation_pb2.ShareKeysRequest(shares=[share, share]).SerializeToString()
    with pytest.raises(ProtocolViolationError) as failure:
        convert.client_message(RoundState.SHARE_KEYS, "bank-a", payload)
    assert (failure.value.code, failure.value.culprit) == ("DUPLICATE_INDEX", "bank-a")
    revealed = participation_pb2.RevealedShare(client=1, share=bytes(36))
    for field in ("self_mask_shares", "mask_key_shares"):
        request = participation_pb2.RevealSharesRequest(**{field: [revealed, revealed]})
        with pytest.raises(ProtocolViolationError):
            convert.client_message(RoundState.REVEAL_SHARES, "bank-a", request.SerializeToString())
