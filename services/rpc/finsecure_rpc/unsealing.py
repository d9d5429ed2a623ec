"""An operator's side of a key service's seal: reading a share, giving it, waiting."""

import asyncio
import getpass
import sys
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

import grpc
from finsecure.keyservice.v1 import seal_pb2, seal_pb2_grpc
from finsecure_crypto.errors import ConfigurationError, FinSecureError, UnavailableError
from finsecure_crypto.key_seal import MOST_SHARE_TEXT, OperatorShare

from finsecure_rpc.call import call
from finsecure_rpc.status import RateExceededError

_CALL_S = 10.0
_PATIENCE_S = 60.0
_PAUSE_S = 0.2


def read_share(path: Path) -> OperatorShare:
    """Read a share from a file, or from standard input where the path is `-`.

    Raises:
        ConfigurationError: SHARE_FILE_MISSING.
        InvalidArgumentError: SHARE_MALFORMED.
    """
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(2 * MOST_SHARE_TEXT)
        else:
            with path.open("rb") as file:
                content = file.read(2 * MOST_SHARE_TEXT)
    except OSError as error:
        raise ConfigurationError(
            "SHARE_FILE_MISSING", f"{path} cannot be read ({error.strerror}); give a share's file"
        ) from error
    return OperatorShare.parse(content.decode("ascii", "replace"))


def prompt_share(label: str = "Share") -> OperatorShare:
    """Ask for a share on the terminal, without showing it.

    Raises:
        InvalidArgumentError: SHARE_MALFORMED.
    """
    return OperatorShare.parse(getpass.getpass(f"{label}: "))


def asked_shares(paths: Sequence[Path]) -> list[OperatorShare]:
    """The shares in the files, or where there is none, one from the terminal.

    Raises:
        ConfigurationError: SHARE_FILE_MISSING.
        InvalidArgumentError: SHARE_MALFORMED.
    """
    return [read_share(path) for path in paths] or [prompt_share()]


def local_target(socket: Path) -> str:
    """Address of a service's socket on its own machine."""
    return f"unix:{socket.absolute()}"


def open_local_channel(target: str) -> grpc.aio.Channel:
    """A channel to `local_target`: the rights on the socket's folder say who is who."""
    credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
    return grpc.aio.secure_channel(target, credentials)


async def seal_status(channel: grpc.aio.Channel, address: str) -> seal_pb2.SealStatus:
    """Ask where the seal stands.

    Raises:
        AuthenticationError, UnavailableError: as `call`.
    """
    answer = await call(
        seal_pb2_grpc.SealServiceStub(channel).GetSealStatus,
        seal_pb2.GetSealStatusRequest(),
        deadline_s=_CALL_S,
        address=address,
    )
    return answer.status


async def give_shares(
    channel: grpc.aio.Channel, address: str, shares: Sequence[OperatorShare]
) -> seal_pb2.SealStatus:
    """Give shares one after the other; returns where the seal stands with the last.

    When others crowd the address from which this calls, it waits for its turn, a minute at most.

    Raises:
        InvalidArgumentError, AuthenticationError: the share is refused.
        ResourceExhaustedError: RATE_EXCEEDED.
        UnavailableError: as `call`.
    """
    stub = seal_pb2_grpc.SealServiceStub(channel)
    status = seal_pb2.SealStatus()
    loop = asyncio.get_running_loop()
    end = loop.time() + _PATIENCE_S
    for share in shares:
        request = seal_pb2.UnsealRequest(share=share.expose())
        while True:
            try:
                answer = await call(stub.Unseal, request, deadline_s=_CALL_S, address=address)
            except RateExceededError as error:
                if loop.time() + error.retry_after_s > end:
                    raise
                await asyncio.sleep(error.retry_after_s)
            else:
                break
        status = answer.status
        require_no_failure(status)
        if status.state != seal_pb2.SEAL_STATE_SEALED:
            break
    return status


async def await_open(channel: grpc.aio.Channel, address: str) -> seal_pb2.SealStatus:
    """Wait until a service that has enough shares serves.

    Raises:
        UnavailableError: UNSEALING_FAILED, and what hinders it; or that it does not answer.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + _PATIENCE_S
    while True:
        try:
            status = await seal_status(channel, address)
        except FinSecureError:  # between two stages nobody listens
            if loop.time() > end:
                raise
        else:
            if status.state != seal_pb2.SEAL_STATE_OPENING:
                require_no_failure(status)
                return status
        await asyncio.sleep(_PAUSE_S)


def require_no_failure(status: seal_pb2.SealStatus) -> None:
    """Return unless the service had enough shares, has none now, and is sealed all the same.

    Raises:
        UnavailableError: UNSEALING_FAILED.
    """
    sealed = status.state == seal_pb2.SEAL_STATE_SEALED
    if sealed and status.failure and not status.shares_given:
        raise UnavailableError(
            "UNSEALING_FAILED",
            f"the shares were enough, but the service cannot serve ({status.failure}) and is "
            "sealed again; its log says why. Mend that, then give the shares again",
        )


def describe(status: seal_pb2.SealStatus) -> str:
    """One line for people."""
    match status.state:
        case seal_pb2.SEAL_STATE_SEALED:
            text = f"sealed: {status.shares_given} of the {status.threshold} shares it takes"
            if status.HasField("expire_time"):
                text += (
                    f", until {status.expire_time.ToDatetime(UTC).isoformat(timespec='seconds')}"
                )
            if status.failure:
                text += f"; the last attempt failed: {status.failure}"
            return f"{text} (set {status.share_set})"
        case seal_pb2.SEAL_STATE_OPENING:
            return "opening: enough shares are there"
        case seal_pb2.SEAL_STATE_UNSEALED:
            return (
                f"unsealed (set {status.share_set}, {status.threshold} of {status.shares} shares "
                "open it)"
            )
        case _:
            return "open: this key service has no seal"
