"""`finsecure unseal`, `seal` and `seal-status`: whether the key service may use its keys."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import grpc
import typer
from finsecure.keyservice.v1 import seal_pb2, seal_pb2_grpc
from finsecure_rpc.channel import open_anonymous_channel
from finsecure_rpc.enrolment import read_root
from finsecure_rpc.unsealing import (
    asked_shares,
    await_open,
    describe,
    give_shares,
    seal_status,
)

from finsecure_cli.commands.options import ConfigOption, with_services
from finsecure_cli.convert import document
from finsecure_cli.output import JsonOption, print_json
from finsecure_cli.settings import DEFAULT_FILE, load_operator

Act = Callable[[grpc.aio.Channel, str], Awaitable[seal_pb2.SealStatus]]


def unseal(
    share_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--share-file", help="File of a share; - reads standard input. Left out, you are asked."
        ),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Give the sealed key service your share; with enough of them it serves.

    When its certificate has ended meanwhile, or its disk may have been copied, run
    `finsecure-keyservice unseal` on its machine.
    """
    shares = asked_shares(share_file or ())

    async def act(channel: grpc.aio.Channel, address: str) -> seal_pb2.SealStatus:
        status = await give_shares(channel, address, shares)
        if status.state == seal_pb2.SEAL_STATE_OPENING:
            status = await await_open(channel, address)
        return status

    _print(_ask(config, act), json)


def status(json: JsonOption = False, config: ConfigOption = DEFAULT_FILE) -> None:
    """Say whether the key service is sealed, and how many shares it has."""
    _print(_ask(config, seal_status), json)


def seal(
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    json: JsonOption = False,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Have the key service forget its keys, at once, until it is unsealed. For security officers.

    Nobody renews a certificate or gets a revocation list from it meanwhile.
    """
    request = seal_pb2.SealRequest(reason=reason, request_id=str(uuid.uuid4()))
    answer = with_services(
        config, lambda services: services.keys(seal_pb2_grpc.SealServiceStub, "Seal", request)
    )
    _print(answer.status, json)


def _ask(config: Path, act: Act) -> seal_pb2.SealStatus:
    """Ask at the listener that needs no certificate: a sealed service cannot check one."""

    async def work() -> seal_pb2.SealStatus:
        settings = load_operator(config)
        address = settings.keyservice_enrol
        async with open_anonymous_channel(address, read_root(settings.root)) as channel:
            return await act(channel, address)

    return asyncio.run(work())


def _print(status: seal_pb2.SealStatus, json: bool) -> None:
    if json:
        print_json(document(status))
    else:
        typer.echo(describe(status))
