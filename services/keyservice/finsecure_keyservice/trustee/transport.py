"""What a trustee asks the key service: where its keys stand."""

from finsecure.keyservice.v1 import encryption_keys_pb2, encryption_keys_pb2_grpc
from finsecure_crypto.errors import NotFoundError
from finsecure_crypto.homomorphic.key_record import KeyState
from finsecure_rpc.connection import Connection

_DEADLINE_S = 10.0


class RegisteredStates:
    """Asks for the state of a key each time, so that disabling one works at once.

    Args:
        connection: to the key service, as this trustee.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

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
