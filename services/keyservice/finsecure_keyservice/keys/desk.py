"""What the services of managed keys share."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from finsecure_rpc.peer import require_peer

from finsecure_keyservice.approval_gate import ApprovalGate
from finsecure_keyservice.decisions import Decisions
from finsecure_keyservice.keys.access import require_own_federation
from finsecure_keyservice.keys.life import KeyLife
from finsecure_keyservice.keys.material import Material
from finsecure_keyservice.keys.store import KeyStore

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True)
class KeyDesk:
    """What the services of managed keys work with."""

    decisions: Decisions[KeyStore]
    gate: ApprovalGate
    material: Material
    life: KeyLife
    domain: str

    def require_access(self, name: str) -> None:
        """Refuse a caller of another federation; see `require_own_federation`."""
        require_own_federation(require_peer().spiffe_id, name, self.domain)
