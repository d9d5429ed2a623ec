"""No secret in any text form, and none of a client's secrets in more places than its own state."""

import dataclasses
import traceback

import pytest
from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.secagg.messages import Confirmations
from finsecure_crypto.secagg.once import Once

from tests.support.secagg import pieces


def secrets_of(value, found, seen):
    """Collects every secret that a state holds, however deep."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if hasattr(value, "expose"):
        found.append(value.expose())
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            secrets_of(getattr(value, field.name), found, seen)
    elif hasattr(value, "values"):
        for each in value.values():
            secrets_of(each, found, seen)


def assert_hidden(text, secrets):
    for secret in secrets:
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text


@pytest.mark.parametrize("reach", ["advertise", "share", "mask", "confirm", "reveal"])
def test_states_and_messages_show_no_secret(stage, reach):
    collected = []
    stage.advertise()
    secrets_of(stage.states["bank-00001"], collected, set())
    getattr(stage, reach)()
    for name in stage.names:
        secrets_of(stage.states[name], collected, set())
        collected += pieces(getattr(stage.said[name], "self_mask_shares", b""), 36)
    assert len(collected) > 2
    for name in stage.names:
        assert_hidden(repr(stage.states[name]), collected)
        assert_hidden(repr(stage.said[name]), collected)
        assert_hidden(str(vars(stage.collector)), collected)


def test_the_unmasking_shows_no_key(stage):
    stage.reveal("bank-00004")
    for name in stage.names[:4]:
        stage.collector.accept(name, stage.said[name])
    unmasking = stage.collector.close()
    assert_hidden(repr(unmasking), [key.expose() for key, _ in unmasking.masks])
    assert "masks" not in repr(unmasking)


def test_errors_show_no_secret(stage):
    stage.sign()
    state = stage.states["bank-00001"]
    with pytest.raises(FinSecureError) as caught:
        state.reveal_shares(Confirmations(b"\x00", b""))
    text = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    secrets = []
    secrets_of(state, secrets, set())
    assert_hidden(text, secrets)


def test_a_finished_client_holds_nothing(stage):
    stage.reveal()
    assert dataclasses.fields(stage.states["bank-00001"]) == ()


def test_a_step_is_taken_once_from_whichever_thread():
    once = Once()
    once.spend("it")
    with pytest.raises(FinSecureError) as caught:
        once.spend("it")
    assert caught.value.code == "ALREADY_ANSWERED"
