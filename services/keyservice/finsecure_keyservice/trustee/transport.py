"""What a trustee asks the key service: where its keys stand, and the proof of it."""

from finsecure.keyservice.v1 import encryption_keys_pb2, encryption_keys_pb2_grpc
from finsecure_crypto.errors import IntegrityError, NotFoundError
from finsecure_crypto.homomorphic.key_record import KeyDescription, KeyState, state_digest
from finsecure_rpc.audit import LogFollower
from finsecure_rpc.connection import Connection

_DEADLINE_S = 10.0
_SET_STATE = "encryption-key.set-state"


class RegisteredStates:
    """Asks for the state of a key each time, so that disabling one works at once.

    Args:
        connection: to the key service, as this trustee.
        follower: of its log.
    """

    def __init__(self, connection: Connection, follower: LogFollower) -> None:
        self._connection = connection
        self._follower = follower

    async def state(self, key_name: str) -> KeyState:
        """State of a key now.

        Raises:
            NotFoundError: KEY_UNKNOWN for a key that is not registered.
            FinSecureError: what the key service answers, or that it cannot be reached.
        """
        stub = self._connection.stub(encryption_keys_pb2_grpc.EncryptionKeyServiceStub)
        response = await self._connection.call(
            stub.GetEncryptionKey,
            encryption_keys_pb2.GetEncryptionKeyRequest(name=key_name),
            deadline_s=_DEADLINE_S,
        )
        name = encryption_keys_pb2.EncryptionKeyState.Name(response.encryption_key.state)
        try:
            return KeyState(name.removeprefix("ENCRYPTION_KEY_STATE_").lower())
        except ValueError as error:
            raise NotFoundError(
                "KEY_UNKNOWN", f"{key_name} is in no state that is known"
            ) from error

    async def proven(self, key: KeyDescription, state: KeyState) -> int:
        """See `KeyStates.proven`."""
        event = await self._follower.verify_publication(key.name, state_digest(key, state))
        if (event.action, event.details.get("after")) != (_SET_STATE, state.value):
            raise IntegrityError(
                "AUDIT_PROOF_INVALID",
                f"event {event.index} of the key service's log is not that {key.name} became "
                f"{state.value}",
            )
        return event.index
