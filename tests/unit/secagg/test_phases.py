from pathlib import Path
from typing import get_args

import pytest
from finsecure_crypto.errors import StateError
from finsecure_crypto.secagg import messages, phases, server
from finsecure_crypto.secagg.phases import STEPS, Phase

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocols" / "secure-aggregation.md"
SAMPLES = {
    messages.KeyAdvertisement: messages.KeyAdvertisement("bank-1", b"", b"", b"", b""),
    messages.KeyShares: messages.KeyShares(b"", b"", b""),
    messages.MaskedInputHeader: messages.MaskedInputHeader(0, b"", b""),
    messages.SurvivorConfirmation: messages.SurvivorConfirmation(b""),
    messages.RevealedShares: messages.RevealedShares(b"", b"", b""),
}


def test_the_phases_are_a_chain():
    assert [step.phase for step in STEPS] == list(Phase)[:-1]
    assert [step.after for step in STEPS] == list(Phase)[1:]


def test_every_client_message_has_exactly_one_phase():
    assert {step.answer for step in STEPS} == set(get_args(messages.ClientMessage))
    assert len({step.answer for step in STEPS}) == len(STEPS)


def test_every_phase_has_its_collector():
    collectors = [
        server.CollectAdvertisements,
        server.CollectShares,
        server.CollectInputs,
        server.CollectConfirmations,
        server.CollectReveals,
    ]
    assert [collector.phase for collector in collectors] == [step.phase for step in STEPS]


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("kind", SAMPLES)
def test_only_the_phases_own_message_is_legal(phase, kind):
    legal = {(step.phase, step.answer) for step in STEPS}
    if (phase, kind) in legal:
        phases.require(phase, SAMPLES[kind], "bank-1")
        return
    with pytest.raises(StateError) as caught:
        phases.require(phase, SAMPLES[kind], "bank-1")
    assert caught.value.code == "OUT_OF_PHASE"
    assert caught.value.culprit == "bank-1"


def test_the_documents_diagram_is_up_to_date():
    assert f"```mermaid\n{phases.diagram()}```" in DOCUMENT.read_text(encoding="utf-8")
