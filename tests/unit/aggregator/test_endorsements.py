"""Versions are signed by a managed key before they are used, and only after they are on disk."""

import asyncio
from types import SimpleNamespace

import pytest
from finsecure_aggregator.endorsements import key_service_signs
from finsecure_aggregator.rechecks import Rechecks
from finsecure_aggregator.wire.models import sign_request
from finsecure_crypto.errors import UnavailableError
from finsecure_crypto.model_statement import architecture_digest
from finsecure_rpc.model_statements import statement_from_wire

from tests.support.federation import task_spec
from tests.unit.aggregator.test_scheduler import Bench

KEY = "federations/lending/keyRings/models/cryptoKeys/global"


class KeyService:
    """Signs, unless it is away."""

    def __init__(self):
        self.away = False
        self.asked = []

    async def __call__(self, plan, record):
        self.asked.append(record)
        if self.away:
            raise UnavailableError("SERVICE_UNREACHABLE", "away")
        request = sign_request(KEY, plan, record)
        return b"signed %d: " % len(self.asked) + request.statement.sha256


@pytest.fixture
async def bench(tmp_path, clock):
    made = Bench(tmp_path, clock, sign=KeyService())
    made.sign = made.around.endorsements._sign
    yield made
    await made.close()


async def _model(bench):
    return await bench.store.model(bench.plan.name, 0)


async def test_what_is_asked_to_be_signed_describes_the_version(bench):
    await bench.begin()
    record = await _model(bench)
    request = sign_request(KEY, bench.plan, record)
    statement = statement_from_wire(request.statement)
    assert statement.version == record.described
    spec = task_spec()
    shapes = [(tensor.name, tuple(tensor.shape)) for tensor in spec.model.tensors]
    assert statement.architecture == architecture_digest(spec.model.factory, shapes)


async def test_no_round_starts_before_its_model_is_signed(bench):
    bench.sign.away = True
    await bench.begin()
    bench.join("a", "b", "c")
    await bench.clock.advance(3)
    async with asyncio.timeout(60):
        while not bench.sign.asked:
            assert await bench.rounds() == []
    assert await bench.rounds() == []
    assert (await _model(bench)).envelope == b""
    bench.sign.away = False
    async with asyncio.timeout(60):
        while not await bench.rounds():
            await bench.clock.advance(3)
    record = await _model(bench)
    assert record.envelope.endswith(record.sha256)


async def test_a_version_is_signed_once_and_anew_when_its_operator_asks(bench):
    await bench.begin()
    rechecks = Rechecks(bench.around, bench.models, bench.quarantine, 10**9)
    await rechecks.sweep()
    first = (await _model(bench)).envelope
    assert first
    await rechecks.sweep()
    assert (await _model(bench)).envelope == first
    renewed = await rechecks.recheck(await _model(bench))
    assert renewed.envelope != first
    assert (await _model(bench)).envelope == renewed.envelope


async def test_models_are_signed_on_after_the_own_certificate_was_renewed(bench):
    class Renewed:
        """A connection whose channels are closed at each renewal, and all made of them with it."""

        generation = 1

        def stub(self, factory):
            return SimpleNamespace(SignModel=self.generation)

        async def call(self, method, request):
            if method != self.generation:
                raise UnavailableError("CONNECTION_CLOSED", "the channel was closed")
            return SimpleNamespace(envelope=b"signed")

    await bench.begin()
    connection = Renewed()
    sign = key_service_signs(connection, KEY)
    assert await sign(bench.plan, await _model(bench)) == b"signed"
    connection.generation = 2
    assert await sign(bench.plan, await _model(bench)) == b"signed"
