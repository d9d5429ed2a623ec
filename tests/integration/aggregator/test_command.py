"""The command line: health, a clean stop, and errors that a person understands."""

import asyncio
import subprocess
import sys

from finsecure_crypto.certificates import Role

from tests.support.federation import ROOT, Federation, task_spec


def command(*arguments, **keywords):
    return subprocess.run(
        [sys.executable, "-m", "finsecure_aggregator", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        **keywords,
    )


async def test_health_and_a_graceful_stop(tmp_path):
    async with Federation(tmp_path, banks=1) as federation:
        await federation.create_task("credit", task_spec())
        federation.start_clients("credit")
        found = await asyncio.to_thread(command, "health", "--config", federation.config)
        assert found.returncode == 0, found.stderr
        again = await asyncio.to_thread(command, "run", "--config", federation.config)
        assert again.returncode == 2
        assert again.stderr.splitlines()[-1].endswith("[LISTEN_FAILED]")
        federation.process.terminate()
        assert await asyncio.to_thread(federation.process.wait, 20) == 0
        found = await asyncio.to_thread(command, "health", "--config", federation.config)
        assert found.returncode == 5
        assert found.stderr.startswith("error: ")
        assert found.stderr.count("\n") == 1


async def test_mistakes_are_one_line_with_a_code(tmp_path):
    async with Federation(tmp_path, banks=1) as federation:
        federation.kill()

        def fails(code, status, *arguments, **keywords):
            found = command(*arguments, **keywords)
            assert found.returncode == status, found.stderr
            last = found.stderr.strip().splitlines()[-1]
            assert last.startswith("error: ")
            assert last.endswith(f"[{code}]")
            assert "Traceback" not in found.stderr

        config = federation.config
        fails("CONFIG_MISSING", 2, "run", "--config", tmp_path / "none.toml")
        wrong = tmp_path / "wrong.toml"
        wrong.write_text(config.read_text() + "colour = 1\n")
        fails("CONFIG_INVALID", 2, "run", "--config", wrong)
        wrong.write_text(config.read_text().replace("aggregator/identity", "nowhere"))
        fails("IDENTITY_MISSING", 2, "run", "--config", wrong)
        federation.pki.enrol(tmp_path / "client", Role.CLIENT, "bank-0")
        wrong.write_text(config.read_text().replace("aggregator/identity", "client"))
        fails("IDENTITY_MISMATCH", 2, "run", "--config", wrong)
        enrol = ("enrol", "--config", config, "--api-key-file", "-")
        fails("API_KEY_MISSING", 2, *enrol, input="")
        fails("IDENTITY_EXISTS", 1, *enrol, input="fs_x")
