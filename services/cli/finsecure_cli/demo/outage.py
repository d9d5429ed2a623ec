"""One bank fails in the middle of a round and comes back two rounds later."""

from collections.abc import Callable
from dataclasses import dataclass

from finsecure_cli.convert import Document
from finsecure_cli.processes import ServiceProcess
from finsecure_cli.rounds import summed

_ROUNDS_AWAY = 2


@dataclass
class Outage:
    """Kills a bank's daemon while a round waits for inputs, and starts it again later.

    It is killed in a round that can spare one. The bank might have submitted its input in the
    milliseconds before it was killed. Then it is in the sum, rightly, and the outage is repeated in
    a later round.

    Attributes:
        process: the bank's daemon.
        round_number: training round in which it is killed, or the next one that can spare it.
        needed: how many inputs a round needs.
        say: is told what happens.
        killed_in: name of the round, once it was killed.
        missed: name of the round that completed without it, once there is one.
        away: whether the daemon is down.
    """

    process: ServiceProcess
    round_number: int
    needed: int
    say: Callable[[str], None]
    killed_in: str = ""
    missed: str = ""
    away: bool = False
    _judged: str = ""

    def see(self, round_: Document) -> None:
        """Act on the newest state of the running round."""
        bank = self.process.name
        number = round_["number"]
        if (
            not self.killed_in
            and number >= self.round_number
            and round_["state"] == "submit_input"
            and bank in (awaited := _awaited(round_))
            and len(awaited) > self.needed
        ):
            self.process.kill()
            self.away = True
            self.killed_in = round_["name"]
            self.round_number = number
            self.say(f"round {number}: {bank} is killed (SIGKILL) while inputs are awaited")
        if (
            round_["state"] == "completed"
            and round_["name"] == self.killed_in
            and round_["name"] != self._judged
        ):
            self._judged = self.killed_in
            if bank in summed(round_):
                self.say(f"round {number}: {bank} had submitted just before; to be repeated")
            else:
                self.missed = self.killed_in
                self.say(f"round {number} completed without {bank}; nothing had to be repeated")
        if self.away and number >= self.round_number + _ROUNDS_AWAY:
            self.bring_back()
            self.say(f"round {number}: {bank} was started again and joins the next round")

    def bring_back(self) -> None:
        """Start the daemon again; plan the outage anew if the bank had been too fast."""
        if not self.away:
            return
        self.process.start()
        self.away = False
        if not self.missed:
            self.killed_in = ""
            self.round_number += 2 * _ROUNDS_AWAY


def _awaited(round_: Document) -> list[str]:
    """Whose inputs a round waits for: who took part in the phase before, or was invited."""
    before = round_["phases"][:-1]
    clients: list[str] = before[-1]["clients"] if before else round_["invited"]
    return clients
