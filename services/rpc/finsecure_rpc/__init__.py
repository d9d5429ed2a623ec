"""gRPC plumbing that every service stands on: identities, TLS, checks on every call, errors."""
