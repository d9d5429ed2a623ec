"""The operator's configuration file, `operator.toml`."""

from pathlib import Path
from typing import Annotated

from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.minimum_cohorts import (
    DEFAULT_ROUND_COHORT,
    DEFAULT_SUM_COHORT,
    MAXIMUM_ROUND_COHORT,
    MAXIMUM_SUM_COHORT,
)
from finsecure_rpc.config import Address, Id, ManagedKey, RelativePath, Settings, load
from pydantic import Field

DEFAULT_FILE = Path("operator.toml")


class TrusteeAddress(Settings):
    """A trustee of the federation.

    Attributes:
        id: its member id.
        address: where it listens.
    """

    id: Id
    address: Address


class NewFederation(Settings):
    """What `finsecure up` opens the federation with.

    Attributes:
        minimum_cohort: fewest clients whose inputs to a round may be summed.
        minimum_sum_cohort: fewest members of an audited sum that is opened.
    """

    minimum_cohort: Annotated[int, Field(ge=2, le=MAXIMUM_ROUND_COHORT)] = DEFAULT_ROUND_COHORT
    minimum_sum_cohort: Annotated[int, Field(ge=2, le=MAXIMUM_SUM_COHORT)] = DEFAULT_SUM_COHORT


class OperatorSettings(Settings):
    """Where the services are and who the operator is.

    Attributes:
        federation: federation that commands are about.
        identity_dir: folder of the operator's keys and certificates.
        root: the pinned root certificate, as given out of band.
        keyservice: address of the key service.
        keyservice_enrol: address of its enrolment listener.
        aggregator: address of the federation's aggregator.
        aggregator_operators: its address for people with tokens, if it has one.
        new_federation: what the federation demands from the beginning.
        trustees: who holds shares of encryption keys.
        model_key: managed key that has to have signed every model, if there is one.
    """

    federation: Id
    identity_dir: RelativePath
    root: RelativePath
    keyservice: Address
    keyservice_enrol: Address
    aggregator: Address
    aggregator_operators: Address | None = None
    new_federation: NewFederation = NewFederation()
    trustees: tuple[TrusteeAddress, ...] = ()
    model_key: ManagedKey | None = None

    def trustee_address(self, trustee: str) -> str:
        """Where a trustee listens.

        Raises:
            ConfigurationError: TRUSTEE_UNKNOWN for one that the configuration does not name.
        """
        for known in self.trustees:
            if known.id == trustee:
                return known.address
        raise trustee_unknown(trustee)


def trustee_unknown(trustee: str) -> ConfigurationError:
    """The error for a trustee that the configuration does not name."""
    return ConfigurationError(
        "TRUSTEE_UNKNOWN",
        f"the operator's configuration does not name the trustee {trustee}; add it",
    )


def load_operator(path: Path) -> OperatorSettings:
    """Read an operator's configuration.

    Raises:
        ConfigurationError: CONFIG_MISSING, CONFIG_INVALID; its owner's fault.
    """
    return load(path, OperatorSettings)
