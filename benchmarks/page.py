"""docs/benchmarks.md: the text around the figures, and the tables and pictures made of them."""

from pathlib import Path
from typing import Any

from benchmarks import flower, lattice, load_figures, notes, paillier, plots, profiles
from benchmarks.rounds import DROPOUTS, HEADLINE, VARIANTS

Entries = dict[str, dict[str, Any]]

_NONE = "n/a"

# Bonawitz et al., CCS 2017, section 7: server and client seconds, without signatures.
PUBLISHED_SERVER = {0: 4.9, 10: 180.9, 30: 413.8}
PUBLISHED_CLIENT = 1.7


def render(results: dict[str, Any], images: Path) -> str:
    """Returns the page; figures that have not been measured show as n/a.

    Args:
        results: as results.json has them.
        images: folder that the pictures are written to.
    """
    figures: Entries = results["figures"]
    plots.draw(figures, images)
    machine, versions = results["machine"], results["versions"]
    parts = [
        notes.HEAD,
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}. Versions: "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + ".",
        "## Goals",
        _goals(figures),
        "## What the machine can do",
        _plain(
            figures,
            {
                "openssl_aes_128_ctr_gb_s": "AES-128-CTR, `openssl speed`, 16 KiB blocks",
                "memory_add_gb_s": "`numpy.add` on 256 MiB arrays, bytes read and written",
                "x25519_us": "one X25519 exchange",
                "ed25519_verify_us": "one Ed25519 signature check",
                "sha256_gb_s": "SHA-256 of a long message",
                "grpc_unary_per_s": "empty gRPC calls one after another, loopback, no TLS",
                "grpc_stream_mb_s": "gRPC stream of 1 MiB chunks, loopback, no TLS",
            },
        ),
        "## Whole rounds",
        notes.ROUNDS,
        _rounds(figures),
        "![Server seconds](images/benchmark-rounds.svg)",
        notes.PHASES,
        _phases(figures, "server", HEADLINE),
        "And with the sparse graph of the semi-honest profile, k = 72:",
        _phases(figures, "server", "sparse.semi_honest"),
        "One client, complete graph, active profile:",
        _phases(figures, "client", HEADLINE),
        notes.PROFILE,
        _profile(figures),
        "## Bytes",
        notes.BYTES,
        _expansion(figures),
        "## Memory",
        notes.MEMORY,
        _memory(figures),
        "![Peak memory](images/benchmark-memory.svg)",
        "## Slices",
        notes.SLICES,
        _plain(
            figures,
            {
                "slices_threads_s": "in threads",
                "slices_processes_s": "in processes",
                "slices_ray_s": "on a Ray cluster",
            },
        ),
        "## Load",
        notes.LOAD,
        _table(*load_figures.rows(figures)),
        _plain(
            figures,
            {
                "ingest_mb_s": "masked input taken from concurrent clients over loopback mTLS",
                "ingest_server_cpu_s_per_gb": "the aggregator's CPU seconds for a GB of it",
                "ingest_driver_cpu_s_per_gb": "the clients' CPU seconds for a GB of it",
                "ingest_disk_mb_s": "the same with the aggregator's files on this machine's disk",
                **{
                    f"server_process_peak_mb.{load.clients}x{load.coordinates}": "peak of the "
                    f"aggregator's process, {load.clients} clients, {load.coordinates} coordinates"
                    for load in (*load_figures.PEAKS, load_figures.LARGEST_PEAK)
                },
            },
        ),
        "## Paillier",
        notes.PAILLIER,
        _paillier(figures),
        "## Lattice modes",
        notes.LATTICE,
        _lattice(figures),
        "## Key service",
        notes.KEYSERVICE,
        _plain(
            figures,
            {
                "certificates_per_s": "certificates issued by one thread, software key",
                "certificates_hsm_per_s": "certificates issued by one thread, key in SoftHSM2",
                "signatures_hsm_per_s": "signatures of the same key alone, for comparison",
                "audit_event_ms": "one audit event, committed and synced",
                "disk_sync_ms": "4 KiB appended to a file and synced, for comparison",
                "audit_events_per_s": "audit events from 2000 concurrent transactions",
                "authorised_call_overhead_ms": "what the guard adds to a unary call over mTLS",
            },
        ),
        "## A peer: Flower " + flower.VERSION,
        notes.PEER,
        _peer(figures),
        notes.TRIED,
    ]
    return "\n\n".join(parts) + "\n"


def _value(figures: Entries, key: str, digits: int = 3) -> str:
    entry = figures.get(key)
    return _NONE if entry is None else f"{entry['median']:.{digits}g}"


def _spread(figures: Entries, key: str) -> str:
    entry = figures.get(key)
    if entry is None:
        return _NONE
    return f"{entry['min']:.3g} to {entry['max']:.3g} ({entry['repetitions']})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _goals(figures: Entries) -> str:
    goals = [
        (
            "mask_ratio_to_openssl",
            "masks ÷ `openssl speed`, one core",
            ">=",
            0.75,
        ),
        ("mask_two_thread_speedup", "masks on two threads ÷ on one", "", 0.0),
        (
            "shamir_split_1000_ms",
            "a client's secrets split, n = 1000, t = 667; ms",
            "<=",
            50.0,
        ),
        ("shamir_rebuild_1000_ms", "1000 secrets rebuilt from 667 shares each; ms", "<=", 100.0),
        *(
            (f"server_ratio_to_raw.{percent}", f"server ÷ raw cost, {percent} % gone", "<=", 1.5)
            for percent in DROPOUTS
        ),
        ("paillier_2048_values_per_s", "16-bit values encrypted, 2048 bits; 1/s", ">=", 250_000.0),
        ("paillier_3072_values_per_s", "16-bit values encrypted, 3072 bits; 1/s", ">=", 180_000.0),
        ("paillier_two_core_speedup", "the same on two cores ÷ on one", ">=", 1.9),
        ("bgv_encrypt_1m_s", "a million 16-bit values encrypted, BGV; s", "<=", 0.6),
        ("bgv_open_1m_s", "their sum opened by two trustees, both counted; s", "<=", 1.0),
        ("bgv_bytes_per_value", "their bytes on the wire, each", "<=", 24.0),
        ("ckks_encrypt_1m_s", "a million reals encrypted, CKKS; s", "<=", 1.2),
        ("ckks_bytes_per_value", "their bytes on the wire, each", "", 0.0),
        ("ckks_sum_error", "largest error of a sum of 10 000 clients, reals of ±1", "<=", 1e-6),
        ("certificates_per_s", "certificates issued with a software key; 1/s", ">=", 1000.0),
        ("certificates_hsm_per_s", "certificates issued with SoftHSM2; 1/s", ">=", 500.0),
        ("audit_event_ms", "an audit event on the disk, SQLite; ms", "<=", 2.0),
        ("audit_events_per_s", "audit events with group commit; 1/s", ">=", 2000.0),
        ("authorised_call_overhead_ms", "identity, policy, validation of a call; ms", "<=", 1.0),
        ("ingest_mb_s", "masked input taken in over loopback mTLS; MB/s", ">=", 500.0),
    ]
    rows = []
    for key, text, sense, bound in goals:
        entry = figures.get(key)
        if entry is None:
            verdict = "not measured"
        elif not sense:
            verdict = ""
        else:
            met = entry["median"] >= bound if sense == ">=" else entry["median"] <= bound
            verdict = "reached" if met else "missed"
        goal = f"{'≥' if sense == '>=' else '≤'} {bound:g}" if sense else ""
        rows.append([f"`{key}`", text, goal, _value(figures, key), _spread(figures, key), verdict])
    return _table(["figure", "what", "goal", "median", "min to max (repetitions)", ""], rows)


def _plain(figures: Entries, keys: dict[str, str]) -> str:
    rows = [
        [text, _value(figures, key), figures.get(key, {}).get("unit", ""), _spread(figures, key)]
        for key, text in keys.items()
    ]
    return _table(["what", "median", "unit", "min to max (repetitions)"], rows)


def _suffix(variant: str, percent: int) -> str:
    return f"{percent}" if variant == HEADLINE else f"{percent}.{variant}"


def _rounds(figures: Entries) -> str:
    rows = []
    for variant in VARIANTS:
        graph, profile = variant.split(".")
        for percent in DROPOUTS:
            suffix = _suffix(variant, percent)
            rows.append(
                [
                    graph,
                    profile.replace("_", "-"),
                    f"{percent} %",
                    _value(figures, f"server_seconds.{suffix}"),
                    _value(figures, f"raw_seconds.{suffix}"),
                    _value(figures, f"server_ratio_to_raw.{suffix}"),
                    _value(figures, f"server_ratio_to_raw_and_hashing.{suffix}"),
                    _value(figures, f"client_seconds.{suffix}"),
                ]
            )
    rows += [
        [
            "complete",
            "Bonawitz 2017",
            f"{percent} %",
            f"{taken:g}",
            "",
            "",
            "",
            f"{PUBLISHED_CLIENT:g}",
        ]
        for percent, taken in PUBLISHED_SERVER.items()
    ]
    head = ["graph", "profile", "gone", "server s", "raw s", "ratio", "ratio, hashing", "client s"]
    return _table(head, rows)


def _phases(figures: Entries, side: str, variant: str) -> str:
    suffix = _suffix(variant, 0)
    start = f"{side}_phase."
    names = [
        key.removeprefix(start).removesuffix(f".{suffix}")
        for key in figures
        if key.startswith(start) and key.endswith(f".{suffix}")
    ]
    rows = [
        [name.replace("_", " ")]
        + [_value(figures, f"{start}{name}.{_suffix(variant, percent)}") for percent in DROPOUTS]
        for name in names
    ]
    return _table([f"{side}, CPU s", *(f"{percent} % gone" for percent in DROPOUTS)], rows)


def _profile(figures: Entries) -> str:
    columns = [
        _newest(figures, f"profile.{percent}.{variant}/") for variant, percent in profiles.WHERE
    ]
    most: dict[str, float] = {}
    for column in columns:
        for name, share in column.items():
            most[name] = max(share, most.get(name, 0.0))
    rows = [
        [
            f"`{name}`" if "." in name else name,
            *(f"{column[name]:.1f}" if name in column else "" for column in columns),
        ]
        for name in sorted(most, key=lambda name: -most[name])
    ]
    others = [f"{100 - sum(column.values()):.1f}" if column else _NONE for column in columns]
    rows.append([f"all below {profiles.LEAST_SHARE:g} %", *others])
    spoken = [
        f"{variant.replace('.', ', ').replace('_', '-')}, {percent} % gone"
        for variant, percent in profiles.WHERE
    ]
    return _table(["server, % of samples", *spoken], rows)


def _newest(figures: Entries, start: str) -> dict[str, float]:
    """Medians of the figures below a key that were measured last, not those of older code."""
    found = {key: entry for key, entry in figures.items() if key.startswith(start)}
    last = max((entry["measured"] for entry in found.values()), default="")
    return {
        key.removeprefix(start): entry["median"]
        for key, entry in found.items()
        if entry["measured"] == last
    }


def _expansion(figures: Entries) -> str:
    rows = []
    for key in sorted(k for k in figures if k.startswith("neighbours.")):
        suffix = key.removeprefix("neighbours.")
        size, graph = suffix.rsplit(".", 1)
        rows.append(
            [
                size.replace("x", ", "),
                graph,
                _value(figures, key, 5),
                _value(figures, f"expansion.{suffix}"),
                _value(figures, f"expansion_encoding.{suffix}"),
                _value(figures, f"expansion_received.{suffix}"),
            ]
        )
    head = [
        "clients, each of values",
        "graph",
        "k",
        "sent ÷ plain",
        "of that the vector",
        "received ÷ plain",
    ]
    return _table(head, rows)


def _memory(figures: Entries) -> str:
    sizes = [
        tuple(map(int, key.removeprefix("server_peak_mb.").split("x")))
        for key in figures
        if key.startswith("server_peak_mb.") and key != "server_peak_mb.imports"
    ]
    clients, words = sorted({n for n, _ in sizes}), sorted({d for _, d in sizes})
    rows = [
        [f"{length} words, {length * 8 / 1e6:.3g} MB"]
        + [_value(figures, f"server_peak_mb.{count}x{length}") for count in clients]
        for length in words
    ]
    rows.append(["nothing but the imports", _value(figures, "server_peak_mb.imports")])
    rows[-1] += [""] * (len(clients) - 1)
    return _table(["vector", *(f"{count} clients, MB" for count in clients)], rows)


def _paillier(figures: Entries) -> str:
    rows = {
        "values_per_s": "16-bit values encrypted a second, sums of 10 000 clients",
        "values_per_s.32": "the same, sums of 32 clients",
        "naive_values_per_s": "one value a ciphertext, encrypted as Paillier did",
        "phe_values_per_s": "one value a ciphertext, phe",
        "bytes_per_value": "bytes a value, sums of 10 000 clients",
        "bytes_per_value.32": "bytes a value, sums of 32 clients",
        "table_s": "the table, once for a key and process; s",
        "proof_s": "the proof of an input of a million values made; s",
        "verify_proof_s": "the same verified, its ciphertexts checked; s",
        "check_us": "a ciphertext checked; µs",
        "add_us": "two ciphertexts added; µs",
        "partial_us": "a trustee's partial of a ciphertext, with its share of the proof; µs",
        "combine_us": "two partials verified and a ciphertext opened; µs",
    }
    return _table(
        ["", *(f"{bits} bits" for bits in paillier.SIZES)],
        [
            [text, *(_value(figures, f"paillier_{bits}_{key}") for bits in paillier.SIZES)]
            for key, text in rows.items()
        ],
    )


def _lattice(figures: Entries) -> str:
    rows = {
        "encrypt_1m_s": "encrypted, from reals to bytes; s",
        "add_1m_s": "checked and added to a sum; s",
        "partial_1m_s": "one trustee's partial; s",
        "open_1m_s": "opened by two trustees: both partials, and put together; s",
        "bytes_per_value": "bytes a value",
    }
    table = [
        [text, *(_value(figures, f"{name}_{key}") for name in ("bgv", "ckks")), ""]
        for key, text in rows.items()
    ]
    for row, key in ((table[0], "encrypt_1m_s"), (table[-1], "bytes_per_value")):
        row[-1] = _value(figures, f"tenseal_{key}")
    published = f"{4 * lattice.PUBLISHED_EXPANSION:.3g}"
    table += [
        ["the same, as NVIDIA published it", "", "", published],
        ["error of a sum of 10 000 clients", "0", _value(figures, "ckks_sum_error"), ""],
        ["what it is sure to stay below", "0", _value(figures, "ckks_error_bound"), ""],
    ]
    return _table(["a million values", "BGV", "CKKS", "TenSEAL, no trustees"], table)


def _peer(figures: Entries) -> str:
    rows = [
        [
            f"whole round, 50 clients, complete, {percent} % gone",
            _value(figures, f"flower_server_seconds.50.{percent}"),
            _value(figures, f"beside_flower_server_seconds.50.{percent}"),
            _value(figures, f"flower_client_seconds.50.{percent}"),
            _value(figures, f"beside_flower_client_seconds.50.{percent}"),
        ]
        for percent in DROPOUTS
    ]
    for percent in DROPOUTS:
        suffix = _suffix("sparse.semi_honest", percent)
        rows.append(
            [
                f"1000 clients, k = 72, t = 24, {percent} % gone; Flower's from its primitives",
                _value(figures, f"flower_server_seconds_from_primitives.1000.{percent}"),
                _value(figures, f"server_seconds.{suffix}"),
                _value(figures, "flower_client_seconds_from_primitives.1000"),
                _value(figures, f"client_seconds.{suffix}"),
            ]
        )
        whole = f"seconds.{flower.LARGE}.{percent}"
        if f"flower_server_{whole}" in figures:
            rows.append(
                [
                    f"{flower.LARGE} clients, k = 72, t = 24, {percent} % gone; its whole round",
                    _value(figures, f"flower_server_{whole}"),
                    "",
                    _value(figures, f"flower_client_{whole}"),
                    "",
                ]
            )
    head = [
        "100 000 values",
        "Flower server s (masks insecure)",
        "ours, server s",
        "Flower client s (masks insecure)",
        "ours, client s",
    ]
    return _table(head, rows)
