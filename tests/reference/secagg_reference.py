"""Secure aggregation, slow and obvious: what a round must compute, byte by byte.

Plain integers and lists, primitives from the other reference files, no certificates and no
encryption of shares, since neither enters a masked vector or a sum.
"""

from tests.reference import ed25519, masks, merkle, shamir, x25519
from tests.reference.transcript import digest, encode


def context(fields):
    return digest("context", 1, *fields)


def session_and_root(context_digest, advertisements):
    """Returns the session, the root and the graph's seed; advertisements are in id order."""
    leaves = [encode("roster-entry", context_digest, *each) for each in advertisements]
    root = merkle.tree_hash(leaves)
    roster = digest("roster", context_digest, len(leaves), root)
    return digest("session", context_digest, roster), root, digest("masking-graph", roster)[:16]


def neighbours(size, degree, seed):
    """Returns the set of each client's neighbours."""
    if degree == size - 1:
        return [set(range(size)) - {index} for index in range(size)]
    words = masks.mask(seed, size)
    circle = sorted(range(size), key=lambda index: (words[index], index))
    around = [set() for _ in range(size)]
    for place, index in enumerate(circle):
        for step in range(1, degree // 2 + 1):
            around[index].add(circle[(place + step) % size])
            around[index].add(circle[(place - step) % size])
    return around


class Client:
    """One client's secrets; the seeds are drawn in the order of the protocol."""

    def __init__(self, name, certificate, signing_seed, randomness, context_digest):
        self.randomness = randomness
        self.channel_seed, self.mask_seed = randomness(32), randomness(32)
        self.mask_key = x25519.public_key(self.mask_seed)
        keys = (x25519.public_key(self.channel_seed), self.mask_key)
        signed = encode("advertise-keys", context_digest, name, *keys)
        signature = ed25519.sign(signing_seed, signed)
        self.advertisement = (name, *keys, signature, certificate)


def pairwise_key(session, secret, one, other):
    info = encode("pairwise-mask", min(one, other), max(one, other))
    return x25519.hkdf(secret, session, info, 16)


def self_key(session, seed, index):
    return x25519.hkdf(seed, session, encode("self-mask", index), 16)


def run(context_digest, clients, degree, threshold, inputs, dropped):
    """Runs a round in which all share and `dropped` do not submit.

    Returns:
        The masked vectors by index, and the unmasked sum.
    """
    size = len(clients)
    session, _, seed = session_and_root(context_digest, [c.advertisement for c in clients])
    around = neighbours(size, degree, seed)
    dealt = []
    for index, client in enumerate(clients):
        client.self_seed = client.randomness(32)
        holders = sorted(around[index] | ({index} if degree == size - 1 else set()))
        points = [holder + 1 for holder in holders]
        shares = shamir.split(
            [client.mask_seed, client.self_seed], threshold, points, client.randomness
        )
        dealt.append((holders, shares))

    masked = {}
    for index, client in enumerate(clients):
        if index in dropped:
            continue
        keys = [(self_key(session, client.self_seed, index), 1)]
        for peer in around[index]:
            secret = x25519.multiply(client.mask_seed, clients[peer].mask_key)
            keys.append((pairwise_key(session, secret, index, peer), 1 if index < peer else -1))
        masked[index] = masks.apply(inputs[index], keys)

    total = [sum(words) % 2**64 for words in zip(*masked.values(), strict=True)]
    for index in range(size):
        holders, shares = dealt[index]
        which = 0 if index in dropped else 1
        left = [(h + 1, shares[which][i]) for i, h in enumerate(holders) if h not in dropped]
        secret = shamir.reconstruct([s for _, s in left], [p for p, _ in left], threshold)
        if index not in dropped:
            total = masks.apply(total, [(self_key(session, secret, index), -1)])
            continue
        for peer in around[index] - set(dropped):
            shared = x25519.multiply(secret, clients[peer].mask_key)
            key = pairwise_key(session, shared, index, peer)
            total = masks.apply(total, [(key, -1 if peer < index else 1)])
    return masked, total
