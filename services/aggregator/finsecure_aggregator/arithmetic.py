"""Where the aggregator sums: the configured back end of its slices."""

from finsecure_crypto.errors import ConfigurationError

from finsecure_aggregator.config import Arithmetic
from finsecure_aggregator.process_slices import ProcessSlices
from finsecure_aggregator.slices import LocalSlices, Slices


def open_slices(settings: Arithmetic) -> Slices:
    """Open the back end; blocks, and does not belong in the main thread.

    Raises:
        ConfigurationError: RAY_MISSING; the owner's.
        UnavailableError: CLUSTER_UNREACHABLE.
    """
    match settings.backend:
        case "threads":
            return LocalSlices(settings.workers)
        case "processes":
            return ProcessSlices(settings.workers, settings.silence_s)
        case "ray":
            try:
                from finsecure_aggregator.ray_slices import RaySlices  # only who asks for it pays
            except ImportError as error:
                raise ConfigurationError(
                    "RAY_MISSING",
                    'arithmetic.backend is "ray", but Ray is not installed here; '
                    "pip install 'finsecure[ray]', or choose another backend",
                ) from error
            assert settings.ray_address is not None  # noqa: S101  # the settings see to it
            return RaySlices(settings.workers, settings.ray_address, settings.silence_s)
