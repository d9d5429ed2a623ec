"""A trustee whose log is followed: one that forgot what it opened is not used."""

from finsecure_crypto.homomorphic.decryption import DecryptionRequest
from finsecure_rpc.audit import LogFollower

from finsecure_aggregator.encryption import Opening, Trustee


class FollowedTrustee:
    """Asks a trustee only while its log grows, and takes only what it has put on record.

    Args:
        trustee: who is asked.
        follower: of its log; remembers the newest checkpoint across restarts.
    """

    def __init__(self, trustee: Trustee, follower: LogFollower) -> None:
        self._trustee = trustee
        self._follower = follower

    async def partially_decrypt(self, opening: Opening, holder: int) -> bytes:
        """See `encryption.Trustee`.

        Raises:
            IntegrityError: AUDIT_LOG_ROLLED_BACK, AUDIT_LOG_FORKED, AUDIT_KEY_UNKNOWN,
                AUDIT_LOG_FOREIGN or AUDIT_PROOF_INVALID: its database was put back, or it is
                another trustee; its owner's fault.
            NotFoundError: PUBLICATION_NOT_FOUND: it decided without its log.
            ConfigurationError: AUDIT_MEMORY_DAMAGED.
            FinSecureError: what the trustee answers, or that it cannot be reached.
        """
        await self._follower.advance()
        partial = await self._trustee.partially_decrypt(opening, holder)
        await self._require_record(opening.request)
        return partial

    async def _require_record(self, request: DecryptionRequest) -> None:
        """Demand the decision in the log, and remember a checkpoint behind it.

        A database that is put back afterwards to what was before the decision shows then.
        """
        await self._follower.verify_publication(request.context.subject_name, request.digest())
