"""Shares on their way: held in memory until there are enough, or their time is up."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from finsecure_crypto.errors import FinSecureError
from finsecure_crypto.key_seal import KeySeal, OperatorShare
from finsecure_rpc.logs import get_logger

from finsecure_keyservice.audit.trail import Recorder
from finsecure_keyservice.clock import Clock, system_clock
from finsecure_keyservice.protection.secret_files import SealedFiles, read_sealed
from finsecure_keyservice.protection.settings import FileProtection, TokenProtection

_log = get_logger(__name__)
LIFETIME = timedelta(minutes=10)
"""How long shares are kept, from the first one on, while there are too few."""


@dataclass(frozen=True)
class Unsealed:
    """A seal that was opened.

    Attributes:
        files: what reads the protected file from now on.
        addresses: from where each share came, by its number.
        refused: how many shares were refused before.
        sealing: set when the service has to seal itself again.
    """

    files: SealedFiles
    addresses: Mapping[int, str]
    refused: int
    sealing: asyncio.Event = field(default_factory=asyncio.Event)

    def record(self, trail: Recorder, domain: str) -> None:
        """Record that the service was unsealed, by which shares, from where."""
        trail.record(
            "service.unseal",
            domain,
            sealed={f"address_{number}": each for number, each in sorted(self.addresses.items())},
            set=self.files.seal.set_id,
            shares=",".join(map(str, sorted(self.addresses))),
            refused=self.refused,
        )


class Unsealing:
    """Collects shares on one event loop.

    Args:
        protection: whose file is sealed.
        failure: code of why the service could not serve when it had enough shares before.
        lifetime: see `LIFETIME`.
        clock: the time.

    Attributes:
        enough: set when the seal is open.

    Raises:
        ConfigurationError: what `read_sealed` raises.
    """

    def __init__(
        self,
        protection: FileProtection | TokenProtection,
        failure: str = "",
        lifetime: timedelta = LIFETIME,
        clock: Clock = system_clock,
    ) -> None:
        self._protection = protection
        self._lifetime = lifetime
        self._clock = clock
        self._seal = read_sealed(protection.secret_file).seal
        self._shares: dict[int, OperatorShare] = {}
        self._addresses: dict[int, str] = {}
        self._refused = 0
        self._timer: asyncio.TimerHandle | None = None
        self._expire_time: datetime | None = None
        self._unsealed: Unsealed | None = None
        self._failure = failure
        self.enough = asyncio.Event()

    @property
    def seal(self) -> KeySeal:
        """The seal whose shares are collected."""
        return self._seal

    @property
    def given(self) -> int:
        """How many different shares there are."""
        return len(self._shares)

    @property
    def expire_time(self) -> datetime | None:
        """When they are forgotten."""
        return self._expire_time

    @property
    def failure(self) -> str:
        """Why the service could not serve when it last had enough shares; or empty."""
        return self._failure

    @property
    def unsealed(self) -> Unsealed | None:
        """The open seal, once there are enough shares."""
        return self._unsealed

    def give(self, text: str, address: str) -> None:
        """Take a share; with enough of them the seal opens, or `failure` says why not.

        Raises:
            InvalidArgumentError: SHARE_MALFORMED.
            AuthenticationError: SHARE_OF_ANOTHER_SET, SHARE_REJECTED.
            ConfigurationError: what `read_sealed` raises.
        """
        if self._unsealed is not None:
            return
        try:
            share = OperatorShare.parse(text)
            self._follow_file()
            self._seal.check(share)
        except FinSecureError as error:
            self._refused += 1
            _log.warning("a share was refused", reason=error.code)
            raise
        if share.number not in self._shares:
            self._shares[share.number] = share
            self._addresses[share.number] = address
            _log.info("a share was given", number=share.number, given=self.given)
        if self.given >= self._seal.threshold:
            self._open()
        elif self._timer is None:
            self._expire_time = self._clock() + self._lifetime
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._lifetime.total_seconds(), self._expire)

    def forget(self) -> None:
        """Drop all shares."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._expire_time = None
        self._shares.clear()
        self._addresses.clear()

    def _expire(self) -> None:
        _log.warning("the shares were forgotten: too few in time", given=self.given)
        self.forget()

    def _follow_file(self) -> None:
        """Begin anew if the operators have been given other shares meanwhile."""
        seal = read_sealed(self._protection.secret_file).seal
        if seal != self._seal:
            self.forget()
            self._seal = seal

    def _open(self) -> None:
        key = self._seal.combine(tuple(self._shares.values()))
        files = SealedFiles(self._seal, key, self._protection.kind)
        try:
            files.read(self._protection.secret_file)
        except FinSecureError as error:
            _log.error("the seal does not open", reason=error.code)
            self._failure = error.code
        else:
            self._unsealed = Unsealed(files, dict(self._addresses), self._refused)
            self.enough.set()
        self.forget()
