"""The program in the README, run as it stands."""

import asyncio
import re
from pathlib import Path

import finsecure_client
import numpy as np
from finsecure.aggregation.v1 import tasks_pb2

from tests.support.client_federation import running_federation

README = Path(finsecure_client.__file__).parents[1] / "README.md"
BANKS = ["bank-a", "bank-b", "bank-c"]
CONFIG = """
[client]
federation = "lending"
identity_dir = "identity"
root = "../root.pem"
keyservice = "{keyservice}"
keyservice_enrol = "{keyservice_enrol}"
aggregator = "{aggregator}"
state_dir = "state"
poll_interval_s = 0.1
[policy]
tasks = ["credit"]
[egress]
manifest = "egress.jsonl"
"""


async def test_program_of_the_readme(tmp_path, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(program, str(README), "exec"), names)  # noqa: S102  # it is our own file
    async with running_federation(tmp_path) as federation:
        fake = federation.aggregator
        rng = np.random.default_rng(0)
        running = []
        for bank in BANKS:
            federation.pki.enrol(tmp_path / bank / "identity", "client", bank)
            config = tmp_path / bank / "client.toml"
            config.write_text(CONFIG.format(**federation.addresses))
            inputs = rng.uniform(size=(100, 4)).astype(np.float32)
            labels = inputs[:, 0] > 0.5
            running.append(asyncio.create_task(names["main"](config, inputs, labels)))
        await fake.available(3)
        sums = await fake.run_round(BANKS)
        assert sums["examples"][:2].tolist() == [240, 60]
        assert sums["update"][0] > 0  # the first input decides
        fake.task.state = tasks_pb2.TASK_STATE_COMPLETED
        await asyncio.gather(*running)
    assert "completed with version 0" in capsys.readouterr().out
