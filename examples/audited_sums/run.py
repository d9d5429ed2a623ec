"""Exposure per merchant over three banks, none of which shows the others its own.

    pip install 'finsecure[paillier]'
    python examples/audited_sums/run.py

Everything runs on this machine: key service, aggregator, three trustees, and three members that
contribute by command. A real federation opens no sum of fewer than 50 members; for three banks it
begins with another minimum, and the aggregator, each trustee and each bank lower that bound in
their own files, as `lower_the_minimum` shows. Any one of them that had not would keep the sum shut.
"""

import csv
import shlex
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

EXPOSURE = {
    "bank-a": {"airline": 1_250_000, "hotel": 80_000},
    "bank-b": {"airline": 430_000, "kiosk": 1_200},
    "bank-c": {"hotel": 15_000, "kiosk": 3_400, "airline": 999},
}
MERCHANTS = ("airline", "hotel", "kiosk")
SUM_SECTION = """
[sums]
minimum_contributors = 3
"""


def finsecure(folder: Path, line: str) -> str:
    """Run the command `finsecure` as the operator of a federation, and give what it prints."""
    print("$ finsecure", line)
    done = subprocess.run(
        [sys.executable, "-m", "finsecure_cli.main", *shlex.split(line)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def free_ports() -> list[int]:
    """Find ports for three services, and for three trustees one after the other."""
    while True:
        sockets = [socket.socket() for _ in range(6)]
        try:
            for each in sockets[:4]:
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in sockets[:4]]
            for offset in (1, 2):
                sockets[3 + offset].bind(("127.0.0.1", ports[3] + offset))
        except (OSError, OverflowError):
            continue
        else:
            return ports
        finally:
            for each in sockets:
                each.close()


def lower_the_minimum(federation: Path) -> None:
    """Edit everybody's own file, as its owner would: three contributors are enough here."""
    operator = federation / "operator.toml"
    text = operator.read_text()
    operator.write_text(text.replace("minimum_sum_cohort = 50", "minimum_sum_cohort = 3"))
    aggregator = federation / "aggregator.toml"
    aggregator.write_text(aggregator.read_text() + SUM_SECTION)
    for trustee in (federation / "trustees").glob("*.toml"):
        text = trustee.read_text()
        trustee.write_text(text.replace("minimum_sum_cohort = 50", "minimum_sum_cohort = 3"))
    for client in (federation / "clients").glob("*.toml"):
        client.write_text(client.read_text() + SUM_SECTION + 'sums = ["exposure-*"]\n')


def make_key(folder: Path) -> None:
    """Deal a Paillier key; in earnest on a machine without a network, in front of the trustees."""
    finsecure(folder, "ceremony cards --out cards.json")
    finsecure(
        folder,
        "ceremony deal paillier-1 --federation lending --cards cards.json --root root.pem "
        "--out dealt.json",
    )
    finsecure(folder, "ceremony import dealt.json")


def contribute(federation: Path) -> None:
    """Enrol each bank and let it contribute; its numbers leave its own process encrypted only."""
    for bank, values in EXPOSURE.items():
        config = f"--config clients/{bank}.toml"
        finsecure(federation, f"member add {bank} --key-file {bank}.key")
        finsecure(federation, f"client enrol {config} --api-key-file {bank}.key")
        with (federation / f"{bank}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("label", "value"), *values.items()])
        print(finsecure(federation, f"sum contribute {config} --sum exposure-q3 {bank}.csv"))


def main() -> None:
    """Set a federation up, and add up what its banks have lent to each merchant."""
    with tempfile.TemporaryDirectory() as folder:
        federation = Path(folder) / "lending"
        keyservice, enrolment, aggregator, trustee = free_ports()
        finsecure(
            Path(folder),
            f"init lending --federation lending --clients {','.join(EXPOSURE)} --trustees 3 "
            f"--keyservice-port {keyservice} --enrol-port {enrolment} "
            f"--aggregator-port {aggregator} --trustee-port {trustee}",
        )
        lower_the_minimum(federation)
        (federation / "merchants.txt").write_text("\n".join(MERCHANTS))
        print("$ finsecure up lending &")
        up = [sys.executable, "-m", "finsecure_cli.main", "up", "lending"]
        with subprocess.Popen(up, cwd=folder, stdout=subprocess.PIPE, text=True) as services:
            try:
                assert services.stdout is not None  # noqa: S101  # for the type checker
                if not any(line.startswith("ready") for line in services.stdout):
                    raise SystemExit("the services did not start")
                make_key(federation)
                terms = "--maximum 1000000000 --minimum 3 --key paillier-1"
                print(finsecure(federation, f"sum create exposure-q3 merchants.txt {terms}"))
                contribute(federation)
                print(finsecure(federation, "sum open exposure-q3"))
            finally:
                services.terminate()
        for merchant in MERCHANTS:
            plain = sum(values.get(merchant, 0) for values in EXPOSURE.values())
            print(f"the plain sum of {merchant}, which nobody but this script has: {plain}")


if __name__ == "__main__":
    main()
