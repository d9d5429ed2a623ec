"""The schemes whose keys trustees make among themselves, as steps of a ceremony."""

from collections.abc import Callable, Mapping
from typing import Any

from finsecure_crypto.errors import InvalidArgumentError, StateError
from finsecure_crypto.homomorphic import registry
from finsecure_crypto.homomorphic.ceremony import StepOutput, Steps
from finsecure_crypto.homomorphic.mode import Mode
from finsecure_crypto.secret import SecretBytes

LAST_STEP = 5
"""Steps of a lattice ceremony."""


def steps_of(mode: Mode, holder: int, context: bytes) -> Steps:
    """The scheme's side of a ceremony.

    Args:
        mode: the scheme.
        holder: number of this trustee, from 1.
        context: digest of the ceremony, 32 bytes.

    Raises:
        InvalidArgumentError: NO_DISTRIBUTED_GENERATION, or CEREMONY_ARGUMENT for a fourth trustee;
            the caller's.
        ConfigurationError: EXTRA_MISSING where the mode's library is not installed.
    """
    if mode is Mode.PAILLIER:
        raise InvalidArgumentError(
            "NO_DISTRIBUTED_GENERATION",
            "trustees cannot make a Paillier key among themselves; a dealer makes it, offline: "
            "`finsecure ceremony deal`",
        )
    registry.require(mode)
    return LatticeSteps(mode, holder, context)


class LatticeSteps:
    """`finsecure_crypto.homomorphic.lattice_ceremony` for one holder, in bytes."""

    def __init__(self, mode: Mode, holder: int, context: bytes) -> None:
        # Imported where it is used: SEAL is an extra.
        from finsecure_crypto.homomorphic import lattice_ceremony

        self._scheme = lattice_ceremony
        self._mode = mode
        self._holder = holder
        self._context = context
        self._state: Any = None  # one class of state for each step
        self._steps: dict[int, Callable[..., StepOutput]] = {
            1: self._commit,
            2: self._reveal,
            3: self._contribute,
            4: self._finish,
            LAST_STEP: self._confirm,
        }

    def advance(
        self, step: int, contents: Mapping[int, bytes], secrets: Mapping[int, SecretBytes]
    ) -> StepOutput:
        """See `Steps.advance`."""
        act = self._steps.get(step)
        if act is None:
            raise StateError("CEREMONY_ORDER", f"a lattice ceremony has {LAST_STEP} steps")
        return act(contents, secrets)

    def _commit(self, *_: object) -> StepOutput:
        self._state, commitment = self._scheme.begin(self._mode, self._holder, self._context)
        return StepOutput(commitment.to_bytes())

    def _reveal(self, contents: Mapping[int, bytes], _: object) -> StepOutput:
        read = self._scheme.Commitment.from_bytes
        self._state, opening = self._state.reveal(_each(read, contents))
        return StepOutput(opening.to_bytes())

    def _contribute(self, contents: Mapping[int, bytes], _: object) -> StepOutput:
        read = self._scheme.Opening.from_bytes
        self._state, contribution, handover = self._state.contribute(_each(read, contents))
        partner = self._scheme.partner(self._holder)
        return StepOutput(contribution.to_bytes(), {partner: handover.to_bytes()})

    def _finish(
        self, contents: Mapping[int, bytes], secrets: Mapping[int, SecretBytes]
    ) -> StepOutput:
        read = self._scheme.Contribution.from_bytes
        handed = [
            secret
            for sender, secret in secrets.items()
            if self._scheme.partner(sender) == self._holder
        ]
        if not handed:
            raise StateError("CEREMONY_INCOMPLETE", "the partner's component was not handed over")
        handover = self._scheme.Handover.from_bytes(handed[0])
        self._state, confirmation = self._state.finish(_each(read, contents), handover)
        return StepOutput(confirmation.to_bytes())

    def _confirm(self, contents: Mapping[int, bytes], _: object) -> StepOutput:
        read = self._scheme.Confirmation.from_bytes
        return StepOutput(b"", made=self._state.confirm(_each(read, contents)))


def _each(read: Callable[[bytes], Any], contents: Mapping[int, bytes]) -> dict[int, Any]:
    return {holder: read(content) for holder, content in contents.items()}
