"""What the wire calls the modes, generations and states of encryption keys."""

from finsecure.keyservice.v1 import encryption_keys_pb2
from finsecure_crypto.homomorphic.key_record import Generation, KeyState
from finsecure_crypto.homomorphic.mode import Mode

MODES = {
    encryption_keys_pb2.ENCRYPTION_MODE_PAILLIER: Mode.PAILLIER,
    encryption_keys_pb2.ENCRYPTION_MODE_BGV: Mode.BGV,
    encryption_keys_pb2.ENCRYPTION_MODE_CKKS: Mode.CKKS,
}
GENERATIONS = {
    encryption_keys_pb2.KEY_GENERATION_DISTRIBUTED: Generation.DISTRIBUTED,
    encryption_keys_pb2.KEY_GENERATION_DEALER: Generation.DEALER,
}
STATES = {
    encryption_keys_pb2.ENCRYPTION_KEY_STATE_ENABLED: KeyState.ENABLED,
    encryption_keys_pb2.ENCRYPTION_KEY_STATE_DEACTIVATED: KeyState.DEACTIVATED,
    encryption_keys_pb2.ENCRYPTION_KEY_STATE_DISABLED: KeyState.DISABLED,
    encryption_keys_pb2.ENCRYPTION_KEY_STATE_DESTROYED: KeyState.DESTROYED,
    encryption_keys_pb2.ENCRYPTION_KEY_STATE_COMPROMISED: KeyState.COMPROMISED,
}
