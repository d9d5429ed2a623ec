"""gRPC plumbing that every service stands on: identities, TLS, checks on every call, errors."""

import os

# gRPC's core writes lines of its own to standard error, between the structured log and past the
# one-line errors of the commands. It reads this variable once, when `grpc` is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
