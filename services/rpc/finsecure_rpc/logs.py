"""Structured logs: one JSON object a line on standard error, with secrets taken out.

Whoever logs names the fields; what is named like a secret, and whatever looks like an API key, is
redacted here as a last line of defence. It is not a licence to log secrets.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from finsecure_crypto.secret import SecretBytes
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
_SECRET_NAME = re.compile(
    r"(?:^|[_.-])(?:secret|password|passphrase|pepper|seed|token|api_?key|private(?:_?key)?|"
    r"key_pem|credentials?|authorization|shares?)(?:$|[_.-])",
    re.IGNORECASE,
)
_API_KEY = re.compile(r"fsj?_[A-Za-z0-9][A-Za-z0-9_-]{15,}")
_PRIVATE_PEM = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL
)
_MOST_TEXT = 16_384


def redact(value: object, name: str = "") -> object:
    """Return a value that is fit for a log: secrets are replaced, byte strings only counted."""
    if name and _SECRET_NAME.search(name) and not isinstance(value, (bool, int, float)):
        return REDACTED
    if isinstance(value, SecretBytes):
        return REDACTED
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, str):
        return _PRIVATE_PEM.sub(REDACTED, _API_KEY.sub(REDACTED, value[:_MOST_TEXT]))
    if isinstance(value, Mapping):
        return {str(key): redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redact(str(value))


def _redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    # Fields that begin with an underscore belong to structlog and are dropped before rendering.
    return {
        key: value if key.startswith("_") or key == "exc_info" else redact(value, key)
        for key, value in event.items()
    }


def configure(service: str, level: str = "INFO") -> None:
    """Send all logs of this process, those of libraries included, to standard error.

    Args:
        service: name that each line carries.
        level: DEBUG, INFO, WARNING or ERROR.
    """

    def name_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_service,
    ]
    pretty = sys.stderr.isatty()
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _redact_event,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> Any:  # structlog's lazy proxy has no public type
    """Return the logger of a module; call it with an event name and fields."""
    return structlog.stdlib.get_logger(name)
