"""What clients send encrypted is looked into by worker processes, which may die over it."""

import asyncio
from pathlib import Path

from finsecure_crypto.errors import IntegrityError, ProtocolViolationError, UnavailableError

from finsecure_aggregator.ciphers import (
    CipherWorkers,
    InputShape,
    KeyFile,
    WorkerLostError,
    WorkerSilentError,
)

_MOST_LOSSES = 2  # a worker may also die of something else than what it reads


async def examine(
    workers: CipherWorkers, key: KeyFile, shape: InputShape, path: Path, client: str, binding: bytes
) -> None:
    """Let a worker parse every ciphertext of an input and verify the proof that its mode demands.

    A file that is refused is deleted.

    Args:
        workers: where the worker comes from.
        key: that the input is encrypted under.
        shape: of the input.
        path: of the input.
        client: whose input it is.
        binding: `EncryptedContext.input_binding` of the client.

    Raises:
        ProtocolViolationError: CIPHERTEXT_MALFORMED, PLAINTEXT_PROOF_REJECTED, or WORKER_KILLED
            where workers die over it; the client's fault.
        UnavailableError: EXAMINATION_TIMED_OUT, where a worker takes too long over it, which a busy
            machine explains as well; the file stays.
    """
    for loss in range(1, _MOST_LOSSES + 1):
        try:
            await workers.ask(
                key,
                "check",
                path=str(path),
                ciphertext_bytes=shape.ciphertext_bytes,
                input_bytes=shape.input_bytes,
                binding=binding.hex(),
            )
        except WorkerSilentError as error:
            raise UnavailableError(
                "EXAMINATION_TIMED_OUT",
                f"the aggregator took too long to look into the input of {client}; try again "
                "later, and ask its operator for more cores or a longer encryption.silence_s",
            ) from error
        except WorkerLostError as error:
            if loss == _MOST_LOSSES:
                await asyncio.to_thread(path.unlink, missing_ok=True)
                raise ProtocolViolationError(
                    "WORKER_KILLED",
                    f"processes of the aggregator died over the input of {client}; make it "
                    "with an unchanged client",
                    culprit=client,
                ) from error
        except IntegrityError as error:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise ProtocolViolationError(
                error.code,
                f"the input of {client} is refused: {error.message}",
                culprit=client,
            ) from error
        else:
            return
