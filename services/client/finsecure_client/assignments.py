"""What a round asks of this client's trainer: the invitation is checked, then values are made."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from finsecure_crypto.attempt import Attempt
from finsecure_crypto.errors import (
    IntegrityError,
    InvalidArgumentError,
    PolicyError,
    ProtocolViolationError,
    UnavailableError,
)
from finsecure_crypto.federation import (
    Encryption,
    Masking,
    RoundKind,
    encrypted_round_parameters,
    round_parameters,
)
from finsecure_crypto.homomorphic.rounds import EncryptedRoundParameters
from finsecure_crypto.secagg.parameters import RoundParameters
from finsecure_rpc.backoff import Backoff
from finsecure_rpc.logs import get_logger

from finsecure_client import contribution
from finsecure_client.contribution import Values
from finsecure_client.instructions import Invitation
from finsecure_client.party import Party
from finsecure_client.trainer import Assignment, GlobalModel

_FETCH_TRIES = 5

Parameters = TypeVar("Parameters", bound=Attempt)

log = get_logger(__name__)


def masked_parameters(name: str, invitation: Invitation, party: Party) -> RoundParameters:
    """Check an invitation to a round under masks wholly and give the round's parameters.

    Args:
        name: of the round, as the instruction says.
        invitation: to it.
        party: whose policy, ledger and trust decide.

    Raises:
        PolicyError, ProtocolViolationError, AuthenticationError, IntegrityError: what this client
            refuses.
    """
    masking = invitation.task.terms.protection
    if not isinstance(masking, Masking):
        raise _mismatch(name)
    return _checked(name, invitation, party, lambda tried: round_parameters(tried, masking))


def encrypted_parameters(
    name: str, invitation: Invitation, key_digest: bytes, party: Party
) -> EncryptedRoundParameters:
    """Check an invitation to an encrypted round, as `masked_parameters`; the key is not looked at.

    Args:
        name: of the round, as the instruction says.
        invitation: to it.
        key_digest: digest of the encryption key, 32 bytes.
        party: whose policy, ledger and trust decide.
    """
    encryption = invitation.task.terms.protection
    if not isinstance(encryption, Encryption):
        raise _mismatch(name)
    return _checked(
        name,
        invitation,
        party,
        lambda tried: encrypted_round_parameters(tried, encryption, key_digest),
    )


def _checked(
    name: str, invitation: Invitation, party: Party, complete: Callable[[Attempt], Parameters]
) -> Parameters:
    task, version = invitation.task, invitation.base_model.version
    expected = f"{task.name}/rounds/{invitation.number}-{invitation.attempt}"
    if name != expected or version.name != f"{task.name}/models/{version.version}":
        raise ProtocolViolationError(
            "ROUND_NAME_MISMATCH", f"an invitation to {expected} came as {name}"
        )
    if invitation.kind is RoundKind.STATISTICS and not task.schema.standardise:
        raise PolicyError(
            "ROUND_NOT_ALLOWED", f"{task.name} does not standardise, so it needs no statistics"
        )
    if invitation.invited > task.maximum_cohort:
        raise ProtocolViolationError(
            "COHORT_ABOVE_TASK",
            f"{invitation.invited} clients are invited, the task allows {task.maximum_cohort}",
        )
    try:
        parameters = complete(invitation.attempt_at())
        party.policy.check_round(task, parameters)
        party.ledger.check(task, invitation.number, invitation.attempt)
    except InvalidArgumentError as error:
        raise ProtocolViolationError(
            error.code, f"the aggregator proposed an impossible round: {error.message}"
        ) from error
    party.trust.check_model(invitation.base_model)
    return parameters


def _mismatch(name: str) -> ProtocolViolationError:
    return ProtocolViolationError(
        "PROTECTION_MISMATCH", f"the instruction for {name} is not one of its task's protection"
    )


async def make_values(invitation: Invitation, party: Party, unwanted: Callable[[], bool]) -> Values:
    """Train, or take statistics, on the worker thread.

    Args:
        invitation: to the round.
        party: whose trainer works.
        unwanted: tells whether nobody waits for the result any more.

    Raises:
        FinSecureError: what the trainer raises, or the download of the model.
    """
    loop, task = asyncio.get_running_loop(), invitation.task
    if invitation.kind is RoundKind.STATISTICS:
        return await loop.run_in_executor(
            party.worker, contribution.statistics, party.trainer, task
        )
    assignment = Assignment(
        task=task,
        model=await _fetch_model(invitation, party),
        round_number=invitation.number,
        cancelled=unwanted,
    )
    return await loop.run_in_executor(
        party.worker, contribution.training, party.trainer, assignment
    )


async def _fetch_model(invitation: Invitation, party: Party) -> GlobalModel:
    """Download the base model; what arrives damaged is fetched anew a few times."""
    backoff = Backoff()
    task, name = invitation.task, invitation.base_model.version.name
    for tries_left in reversed(range(_FETCH_TRIES)):
        try:
            model = await party.models.fetch(invitation.base_model, task, party.service)
        except (IntegrityError, UnavailableError) as error:
            if not tries_left:
                raise
            log.warning("model not fetched yet", model=name, error=str(error))
            await asyncio.sleep(backoff.next_s())
        else:
            if (model.standardisation is not None) != task.schema.standardise:
                raise ProtocolViolationError(
                    "MODEL_NOT_STANDARDISED",
                    f"{name} does not fit to standardise = "
                    f"{str(task.schema.standardise).lower()} of the task",
                )
            return model
    raise AssertionError
