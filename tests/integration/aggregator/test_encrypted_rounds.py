"""Encrypted rounds over the wire: an aggregator process, three trustees, clients, failures."""

import pytest
from finsecure.aggregation.v1 import tasks_pb2
from finsecure_rpc.log_memory import LogMemory, Remembered

from tests.support.encrypted_federation import encrypted_federation, encrypted_spec
from tests.support.federation import ENCRYPT, Federation, leave_before
from tests.support.rounds import check_average_round
from tests.support.trustees import key

SPEC = encrypted_spec()


def encrypt(words, binding):
    public = key()
    return public.proven(words, public.encrypt_words(words, public.blinder(10)), binding)


def start(federation, hooks=None):
    federation.start_clients("credit", hooks)
    for client in federation.clients.values():
        client.encrypt = encrypt


async def test_a_round_with_drop_outs_and_a_trustee_that_is_down(tmp_path):
    federation = Federation(tmp_path)
    async with encrypted_federation(federation, absent=[1]):
        await federation.create_task("credit", SPEC)
        start(federation, {"bank-1": leave_before(ENCRYPT), "bank-4": leave_before(ENCRYPT)})
        task = await federation.ended("credit", timeout_s=120)
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        await check_average_round(federation, "credit", SPEC, {"bank-0", "bank-2", "bank-3"})
        (done,) = await federation.history("credit")
        assert [phase.phase for phase in done.phases] == [
            tasks_pb2.ROUND_STATE_SUBMIT_INPUT,
            tasks_pb2.ROUND_STATE_OPENING,
        ]
        said = {answer.trustee: answer.reason for answer in done.trustees}
        assert said == {"trustee-1": "TRUSTEE_UNREACHED", "trustee-2": "", "trustee-3": ""}


@pytest.mark.slow
async def test_a_trustee_that_forgot_what_it_decided_is_not_used(tmp_path):
    federation = Federation(tmp_path)
    async with encrypted_federation(federation) as register:
        forgetful = register.trustees[0]
        signer = forgetful.database.run_sync(forgetful.log.keys.signer)
        memory = LogMemory(tmp_path / "aggregator" / "identity" / f"audit-{forgetful.id}.json")
        memory.save(Remembered(signer.verifier, signer.sign(5, bytes(range(32)))))
        await federation.create_task("credit", SPEC)
        start(federation)
        task = await federation.ended("credit", timeout_s=120)
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        (done,) = await federation.history("credit")
        said = {answer.trustee: answer.reason for answer in done.trustees}
        assert said == {"trustee-1": "AUDIT_LOG_ROLLED_BACK", "trustee-2": "", "trustee-3": ""}
        assert forgetful.events() == []  # it was not even asked


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("logged:submit_input:3", marks=pytest.mark.slow),
        pytest.param("opening", marks=pytest.mark.slow),
        "partial",
    ],
)
async def test_a_killed_aggregator_resumes_an_encrypted_round(tmp_path, point):
    federation = Federation(tmp_path, grace_s=60)
    async with encrypted_federation(federation):
        federation.kill()
        federation.start(crash_at=point)
        await federation.create_task("credit", SPEC)
        start(federation)
        await federation.died()
        federation.start()
        task = await federation.ended("credit", timeout_s=120)
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        assert [done.attempt for done in await federation.history("credit")] == [1]
        await check_average_round(federation, "credit", SPEC, set(federation.banks))


async def test_a_hostile_input_is_refused_and_named_and_spoils_nothing(tmp_path):
    federation = Federation(tmp_path)
    async with encrypted_federation(federation):
        await federation.create_task("credit", SPEC)
        start(federation)
        size = key().modulus.ciphertext_bytes + key().proof_bytes
        federation.clients["bank-3"].encrypt = lambda *_: [b"\xff" * size]
        federation.clients["bank-4"].encrypt = lambda words, _: encrypt(words, bytes(32))
        task = await federation.ended("credit", timeout_s=120)
        assert task.state == tasks_pb2.TASK_STATE_COMPLETED, task.state_detail
        (done,) = await federation.history("credit")
        blamed = {blame.client: blame.reason for blame in done.blamed}
        assert blamed == {"bank-3": "CIPHERTEXT_MALFORMED", "bank-4": "PLAINTEXT_PROOF_REJECTED"}
        for bank, reason in blamed.items():
            assert [error.code for error in federation.clients[bank].errors] == [reason]
        honest = set(federation.banks) - set(blamed)
        await check_average_round(federation, "credit", SPEC, honest)
