"""Options that several commands share, and how they reach the services."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from finsecure_cli.callers import Caller, CertificateCaller, TokenCaller
from finsecure_cli.renewal import renew_if_due
from finsecure_cli.settings import DEFAULT_FILE, load_operator
from finsecure_cli.token_option import given_token
from finsecure_cli.transport import Services

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="FINSECURE_CONFIG",
        help="The operator's configuration file.",
        show_default=str(DEFAULT_FILE),
    ),
]

T = TypeVar("T")


def with_services(config: Path, act: Callable[[Services], Awaitable[T]]) -> T:
    """Connect as the operator that the configuration names, or with a token, and run `act`.

    Raises:
        FinSecureError: what the configuration, the identity or the services say.
    """
    token = given_token()

    async def work() -> T:
        settings = load_operator(config)
        if token is not None:
            caller: Caller = TokenCaller(settings, token)
        else:
            await renew_if_due(settings)
            caller = CertificateCaller(settings)
        async with Services(settings, caller=caller) as services:
            return await act(services)

    return asyncio.run(work())
