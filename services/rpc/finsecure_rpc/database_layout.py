"""Which layout a database has; every service notes it when it makes its tables."""

from finsecure_crypto.errors import ConfigurationError


def require_layout(found: str | None, known: str) -> None:
    """Refuse a database that another release laid out.

    Args:
        found: what is noted in the database; None where nothing is.
        known: what this program works with.

    Raises:
        ConfigurationError: DATABASE_LAYOUT.
    """
    if found != known:
        raise ConfigurationError(
            "DATABASE_LAYOUT",
            f"the database has {'no noted layout' if found is None else f'layout {found}'}, this "
            f"program knows {known}; run the program that made it, or name an empty database",
        )
