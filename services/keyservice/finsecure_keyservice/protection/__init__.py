"""How private material is protected at rest: wrapped by a key-encryption key, or never outside."""
