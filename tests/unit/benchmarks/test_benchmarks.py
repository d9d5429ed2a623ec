"""Every set runs at tiny sizes, and its figures land where the report looks for them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from finsecure_crypto.errors import IntegrityError

from benchmarks import expansion, flower, masks, memory, page, profiles, raw, report, rounds, shamir
from benchmarks.figures import Figure, UnavailableError

REQUIRED = (
    "openssl_aes_128_ctr_gb_s",
    "memory_add_gb_s",
    "x25519_us",
    "ed25519_verify_us",
    "grpc_unary_per_s",
    "grpc_stream_mb_s",
    "mask_ratio_to_openssl",
    "mask_two_thread_speedup",
    "shamir_split_1000_ms",
    "shamir_rebuild_1000_ms",
    "expansion.1024x1048576.sparse",
    "expansion.16384x1048576.sparse",
    "server_peak_mb.1000x1048576",
    *(
        f"{name}.{percent}{variant}"
        for name in ("server_ratio_to_raw", "server_seconds", "client_seconds")
        for percent in (0, 10, 30)
        for variant in ("", ".complete.semi_honest", ".sparse.active", ".sparse.semi_honest")
    ),
)


def silent(_text: str) -> None:
    pass


@pytest.fixture(autouse=True)
def quick_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """`openssl speed` takes a second each time; one run tells that its output is understood."""
    monkeypatch.setattr(raw, "openssl_ctr", lambda: 10.0)


def test_openssl_speed_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 0.01 < raw.openssl_ctr() < 1000


def test_openssl_is_missed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="openssl command is missing"):
        raw.openssl_version()


@pytest.mark.parametrize("variant", page.VARIANTS)
def test_a_round_ends_with_the_plain_sum(variant: str) -> None:
    # `play` itself compares the sums; 100 clients are the fewest with a sparse active graph.
    figures = rounds.measure(1, silent, clients=100, values=50, variants=(variant,))
    for percent in rounds.DROPOUTS:
        suffix = f"{percent}" if variant == rounds.HEADLINE else f"{percent}.{variant}"
        assert figures[f"server_ratio_to_raw.{suffix}"].median > 0
        assert figures[f"client_seconds.{suffix}"].median > 0
        phases = [
            f
            for key, f in figures.items()
            if key.startswith("server_phase.") and key.endswith(f".{suffix}")
        ]
        assert sum(f.median for f in phases) == pytest.approx(
            figures[f"server_seconds.{suffix}"].median
        )


def test_a_spoilt_mask_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "apply_masks", lambda *_: None)
    with pytest.raises((IntegrityError, AssertionError)):
        rounds.measure(1, silent, clients=12, values=50, variants=(rounds.HEADLINE,))


def test_small_sets_and_the_page(tmp_path: Path) -> None:
    figures = raw.measure(1, silent, calls=20)
    figures |= masks.measure(1, silent, words=2**12, masks=3)
    figures |= shamir.measure(1, silent, roster=12)
    figures |= expansion.measure(silent, rosters=(64, 128), values=2**10)
    figures |= memory.measure(1, silent, clients=(1, 2), words=(2**10,))
    results, target = tmp_path / "results.json", tmp_path / "benchmarks.md"
    report.record(figures, results)
    report.record({"shamir_split_12_ms": Figure((1.0, 3.0, 2.0), "ms")}, results)
    loaded = report.load(results)
    assert loaded["figures"].keys() == figures.keys()
    split = loaded["figures"]["shamir_split_12_ms"]
    assert (split["median"], split["min"], split["max"], split["repetitions"]) == (2, 1, 3, 3)
    assert {"cpu", "cores"} <= loaded["machine"].keys()
    assert {"python", "numpy", "cryptography"} <= loaded["versions"].keys()
    report.write_page(results, target)
    text = target.read_text("utf-8")
    assert "not measured" in text
    for name in ("benchmark-rounds.svg", "benchmark-memory.svg"):
        assert f"images/{name}" in text
        assert (tmp_path / "images" / name).stat().st_size > 1000


def test_expansion_counts_the_vector_and_more() -> None:
    figures = expansion.measure(silent, rosters=(64,), values=2**12)
    for graph in ("sparse", "complete"):
        vector = figures[f"expansion_encoding.64x4096.{graph}"].median
        # 16 value bits and 6 for 64 clients: two lanes to a word, 4 bytes for 2.
        assert vector == 2
        assert figures[f"expansion.64x4096.{graph}"].median > vector


def test_the_published_results_have_every_figure() -> None:
    results = report.load()
    assert [key for key in REQUIRED if key not in results["figures"]] == []
    for entry in results["figures"].values():
        assert entry["min"] <= entry["median"] <= entry["max"]
        assert entry["repetitions"] >= 1


def test_the_published_page_is_made_of_the_published_results(tmp_path: Path) -> None:
    report.write_page(target=tmp_path / "benchmarks.md")
    assert (tmp_path / "benchmarks.md").read_text("utf-8") == report.PAGE.read_text("utf-8")


def test_a_peer_that_cannot_be_installed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flower, "_ENVIRONMENT", tmp_path / "flower")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UnavailableError, match=r"Flower 1\.\d+\.\d+ cannot be installed"):
        flower.measure(1, silent, whole=False)


def test_a_peer_that_breaks_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "_install", lambda: Path(sys.executable))
    with pytest.raises(UnavailableError, match="does not run here"):
        flower.measure(1, silent, whole=False)


def test_what_the_peer_says_becomes_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = dict.fromkeys(
        ("mask", "agree", "split_seed", "split_key", "rebuild_seed", "rebuild_key"), 0.001
    )
    answer = {
        "primitives": cost,
        "workflow": {str(p): {"server": 1.0, "client": 0.1} for p in rounds.DROPOUTS},
    }

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, "noise\n" + json.dumps(answer), "")

    monkeypatch.setattr(flower, "_install", lambda: Path("python"))
    monkeypatch.setattr(flower.subprocess, "run", run)
    ours = {
        f"{side}_seconds.{p}.complete.semi_honest": Figure((0.5,), "s")
        for side in ("server", "client")
        for p in rounds.DROPOUTS
    }
    monkeypatch.setattr(flower.rounds, "measure", lambda *_, **__: ours)
    figures = flower.measure(1, silent, whole=False)
    # 700 survivors: rebuild and mask; 300 gone: rebuild, and 72 times agree and mask.
    expected = 700 * 0.002 + 300 * 0.001 + 300 * 72 * 0.002
    found = figures["flower_server_seconds_from_primitives.1000.30"].median
    assert found == pytest.approx(expected)
    assert figures["beside_flower_server_seconds.50.30"].median == 0.5
    assert f"flower_server_seconds.{flower.LARGE}.30" not in figures
    whole = flower.measure(1, silent, whole=True)
    assert whole[f"flower_server_seconds.{flower.LARGE}.30"].median == 1.0
    assert whole[f"flower_client_seconds.{flower.LARGE}.30"].median == 0.1


FOLDED = """\
main (profiles.py:9);measure (rounds.py:98);play (rounds.py:171);Stopwatch.time (cohort.py:60);\
CollectReveals.close (finsecure_crypto/secagg/unmasking.py:127);\
KeyPair.exchange (finsecure_crypto/agreement.py:60) 6
main (profiles.py:9);measure (rounds.py:98);play (rounds.py:150);time (cohort.py:60);\
accept (finsecure_crypto/secagg/collector.py:9);verify (finsecure_crypto/signing.py:3);\
public (cryptography/x.py:3) 3
measure (rounds.py:98);play (rounds.py:159);time (cohort.py:60);<lambda> (rounds.py:160) 1
measure (rounds.py:98);play (rounds.py:155);inputs (cohort.py:230);_step (cohort.py:200);\
time (cohort.py:60);mask_input (finsecure_crypto/secagg/client.py:200) 50
measure (rounds.py:80);__init__ (cohort.py:90);split (finsecure_crypto/shamir.py:60) 40
"""


def test_a_profile_has_the_servers_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "_sample", lambda *_: FOLDED.splitlines())
    where = (("complete.active", 10),)
    figures = profiles.measure(silent, clients=5, values=5, where=where)
    assert {key: figure.median for key, figure in figures.items()} == {
        "profile.10.complete.active/agreement.exchange": pytest.approx(60),
        "profile.10.complete.active/signing.verify": pytest.approx(30),
        "profile.10.complete.active/sums and digests of vectors": pytest.approx(10),
    }


def test_a_profiler_that_is_missing_or_breaks_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="py-spy is missing"):
        profiles.measure(silent)
    python.with_name("py-spy").symlink_to("/bin/false")
    with pytest.raises(UnavailableError, match="cannot sample here"):
        profiles.measure(silent)


def test_the_round_that_is_profiled_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(profiles.rounds, "measure", lambda *_, **how: asked.update(how))
    profiles.main(["sparse.active", "30", "100"])
    assert asked == {
        "clients": 100,
        "values": 100_000,
        "variants": ("sparse.active",),
        "dropouts": (30,),
    }
