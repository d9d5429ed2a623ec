"""Another language reads tasks and models over mTLS, from the project's protos alone."""

import asyncio
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from finsecure_crypto.certificates import Role

from tests.support.federation import ROOT, Federation, task_spec

EXAMPLE = ROOT / "examples" / "node"

pytestmark = [
    pytest.mark.skipif(
        shutil.which("node") is None or shutil.which("npm") is None,
        reason="Node.js and npm are not installed: no second language to try the contract with",
    ),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with the packages that its lock file names, installed beside a copy."""
    folder = tmp_path_factory.mktemp("node") / "examples" / "node"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder.parent.parent / "protos").symlink_to(ROOT / "protos")
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return folder


async def read(
    example: Path, federation: Federation, identity: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [
            *("node", "federation.mjs", "--identity", str(identity)),
            *("--address", federation.address),
            *("--server-name", "aggregator.lending.finsecure.internal"),
            *("--federation", "federations/lending", *more),
        ],
        cwd=example,
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_node_lists_tasks_and_downloads_a_verified_model(example, tmp_path):
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", task_spec())
        federation.start_clients("credit")
        await federation.ended("credit")
        identity = federation.pki.enrol(tmp_path / "reader", Role.CLIENT, "bank-0")
        model = "federations/lending/tasks/credit/models/latest"
        done = await read(
            example, federation, identity.folder, "--model", model, "--out", "model.bin"
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["tasks"] == [
            {
                "name": "federations/lending/tasks/credit",
                "state": "TASK_STATE_COMPLETED",
                "completed_rounds": 1,
                "latest_model": "federations/lending/tasks/credit/models/1",
            }
        ]
        content = await federation.download("credit", 1)
        assert report["model"]["version"] == 1
        assert report["model"]["sha256"] == hashlib.sha256(content).hexdigest()
        assert (example / "model.bin").read_bytes() == content


async def test_node_is_told_why_it_may_not(example, tmp_path):
    async with Federation(tmp_path) as federation:
        await federation.create_task("credit", task_spec())  # so it serves by now
        stranger = federation.pki.enrol(
            tmp_path / "stranger", Role.CLIENT, "bank-0", federation="other"
        )
        done = await read(example, federation, stranger.folder)
        assert done.returncode == 1
        assert "PERMISSION_DENIED" in done.stderr or "UNAUTHENTICATED" in done.stderr
