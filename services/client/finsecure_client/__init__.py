"""The client of a federation: a Python SDK and the daemon `finsecure-client`.

>>> async with finsecure_client.connect(Path("client.toml")) as client:
...     await client.join("credit-default", MyTrainer())
"""

from finsecure_rpc.admission import JoinAs

from finsecure_client.sdk import Client, connect, enrol
from finsecure_client.trainer import (
    Assignment,
    Evaluation,
    GlobalModel,
    Standardisation,
    TrainedModel,
    Trainer,
)

__all__ = [
    "Assignment",
    "Client",
    "Evaluation",
    "GlobalModel",
    "JoinAs",
    "Standardisation",
    "TrainedModel",
    "Trainer",
    "connect",
    "enrol",
]
