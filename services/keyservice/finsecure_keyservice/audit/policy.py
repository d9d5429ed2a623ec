"""Which role may read an audit log, whoever keeps it: members what proves, people all of it."""

from types import MappingProxyType

from finsecure_rpc.policy import MEMBERS, READERS, Policy

_SERVICE = "/finsecure.keyservice.v1.AuditService/"

WATCH_EVENTS = f"{_SERVICE}WatchEvents"
"""Its stream stays open."""

POLICY: Policy = MappingProxyType(
    {
        f"{_SERVICE}GetCheckpoint": MEMBERS,
        f"{_SERVICE}GetConsistencyProof": MEMBERS,
        f"{_SERVICE}GetInclusionProof": MEMBERS,
        f"{_SERVICE}ProvePublication": MEMBERS,
        f"{_SERVICE}GetKeyHandover": MEMBERS,
        f"{_SERVICE}ListEvents": READERS,
        WATCH_EVENTS: READERS,
    }
)
