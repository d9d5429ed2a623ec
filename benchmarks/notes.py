"""The words of docs/benchmarks.md: how things are measured, and what was tried."""

HEAD = """# Benchmarks

This page is written by `make bench` from `benchmarks/results.json`; change `benchmarks/`, not the
page. It takes about ten minutes and plays each whole round once; `make bench-full` repeats more
often and runs what the former leaves as it was: the semi-honest rounds of the complete graph, the
large load rounds and larger rounds of the peer. It takes an hour or two.
A single set runs as `.venv/bin/python -m benchmarks rounds`.

All times are **CPU seconds of one thread** unless a line says otherwise: they leave out what else
the machine does, and are what `openssl speed` quotes. Limits and our own figures alternate in one
run, so a ratio of cryptography holds although the machine is shared. Work on many small objects
suffers more from neighbours, through the caches: up to twice the time where others compute.
Medians are quoted, with the spread where there is one."""

ROUNDS = """\
1000 clients, 100 000 values of 16 bits (50 000 words, 400 kB), signatures and consistency
round on, drop-outs after ShareKeys, where they cost most. One client is the production client.
The others send what production clients would, real keys, Shamir shares, commitments and
signatures, but do not make the pairwise masks that cancel between survivors; the server cannot
tell, and its sum is compared with the plain sum word for word in every round.

*Server* has all the protocol core does, and with it the SHA-256 of every vector, the summing and
the decoding. Parsing protobuf messages, TLS, the disk and the verification of certificates, which
are verified once and remembered, are not in it. *Raw* is what the round's own keystream bytes
cost at the speed of `openssl speed`, its own X25519 operations and its own signature checks;
*ratio* is server ÷ raw. *Ratio, hashing* adds to raw one SHA-256 pass over all that is signed,
vectors and shares, which no check of their signatures can do without. The sparse graph has
up to 5 % corrupt and 33 % gone: k = 398 for the active profile, k = 72 for the semi-honest one.

The figures of Bonawitz et al. (CCS 2017, section 7) are of another machine and of 2017, for
100 000 entries as well, without signatures; they stand here for the shape, not for the speed of
the processor."""

PHASES = """### Where the time goes

Complete graph, active profile. With drop-outs, masks and key agreements are nearly all of it. At
0 % there is next to no cryptography to do: the denominator is a third of a second. What stands
above it is SHA-256 of all that is signed, 400 MB of vectors and 108 MB of shares, which raw leaves
out and *ratio, hashing* has in; the first touch of the memory that 144 MB of shares are kept in;
and some microseconds of Python for each message. The million shares themselves cost what it takes
to scatter them into an array. The same holds for the sparse graph at 0 %, on a smaller scale."""

PROFILE = """### Function by function

The same rounds sampled by py-spy, 500 times a second, the server's part alone: time in a library
counts for the function of the core that called it, so `signing.verify` is Ed25519,
`agreement.exchange` X25519, `agreement.derive` HKDF, `masking._apply` AES and the addition.
`python -m benchmarks profile` makes it."""

BYTES = """Serialised messages of the wire contract, gRPC's prefixes included, model download not.
Plain is 16 bits a value. The paper's own figures are 1.73 (2^10 clients) and 1.98 (2^14): it packs
values of 26 and 30 bits without gaps, while ours lie in lanes of 64-bit words, two to a word, so
the vector alone is 2.00. In return the server adds and unmasks whole words, and a layout with
more lanes to a word costs less: 11-bit values have three."""

MEMORY = """\
The aggregator's accumulator in a process of its own, two slices, inputs read from files,
masks removed at the end. Peak of the whole process: it follows the vector and not the number of
clients. The protocol's own state comes on top: 108 bytes of every encrypted share and 36 of every
revealed one, so about 150 MB for 1000 clients in the complete graph and 11 MB for k = 72."""

LOAD = """\
Real protocol clients, each with certificates and an mTLS connection of its own, in two driver
processes, against one aggregator process with its disk, all on this machine; 10 % of the clients
are killed, each at a random moment from ShareKeys to RevealShares or in the middle of its upload.
The new model is compared with the plain sum bit for bit. Wall times count what everything else
on the machine does, the clients' own cryptography above all. 10 000 clients use the semi-honest
profile (k = 50) and, where it says so, the active one (k = 136), the others the active one; sparse
graph with 5 % corrupt and 15 % gone. For the rate of
uploads all inputs are masked first and then sent at once. An input is on the disk before it is
acknowledged, so the disk bounds the rate: it is measured with the files in memory and on the disk.
Clients' certificates are issued by the drivers, and the key service is a stand-in that serves the
revocation list.

Of the aggregator's CPU time for a GB of input, gRPC with TLS takes about 0.75 s (measured alone),
SHA-256 0.6 s, writing the files 0.4 s, the CRC-32 of the chunks 0.25 s and folding them 0.25 s; the
rest is threads handing chunks to each other and the caches that neighbours on the machine use. Its
memory grows with the vector and with the connections: about 0.1 MB for each client that is
connected, and 0.15 MB more while all rosters are on their way at once, not with clients
times coordinates. Bytes are checked, hashed and written by one thread for each core; 32 of them,
which only took turns, cost 15 % more CPU time for the same bytes (2.2 s against 1.9 s for 512 MB,
medians of four runs each, in turns, on a busy machine). Other threads wait for the disk.

At first a round of 500 clients moved at four messages a second: each message woke every client's
stream, each stream asked the database, and each message had a commit of its own. Now only turns of
a round wake the streams, and messages that arrive together are verified and committed together.
Larger HTTP/2 frames, larger read buffers and other settings of the memory allocator did not lower
the CPU time of uploads."""

SLICES = """\
20 inputs of 2^21 words (16 MiB each) summed and 1000 masks removed, in two slices, by each back
end of the aggregator's arithmetic. Wall seconds, with the start of the workers. All of them run on
this one machine, the two nodes of the Ray cluster too: the difference is what a back end costs, not
what more machines gain, which [sizing.md](sizing.md) works out."""

PAILLIER = """\
Encryption with the public key alone, from reals to ciphertexts, on one core: encoding, packing, one
product for each digit of a short blinding exponent (448 and 512 bits, an assumption of its own), w
= 12. How many values a ciphertext holds depends on the cohort, for every lane has room for its sum:
62 (2048 bits) and 94 (3072) for 10 000 clients, which is what the goals are measured with, 93 and
141 for 32. The table of powers is made before, and its time is below. Two cores are two worker
processes of the client, against one, in wall time.

The peers put one value into a ciphertext, as is usual; both exponentiate anew for each. Opening is
what costs: a trustee exponentiates each ciphertext with its share, in constant time, which is half
as much again as GMP's fastest way. Partials are measured on a run of 24 ciphertexts, what comes
after them on one of 768."""

LATTICE = """\
A million values of 16 bits for sums of 10 000 clients, from the values to the bytes and back, on
one core. BGV rounds to 16 bits as masks do, CKKS takes the reals as they are. Opening counts the
partial decryptions of both trustees and what puts them together; trustees work side by side, so the
time that passes is less. The error is that of 10 000 inputs, each encrypted on its own.

TenSEAL encrypts the same reals in the same run, with the settings that NVIDIA recommended for
federated learning: N = 8192, [60, 40, 40], scale 2^40, real slots, compressed. There a message of
19 MB became one of 283 MB, 15 times its size (H. Roth, *Federated Learning with Homomorphic
Encryption*, NVIDIA developer blog, 2021). Those settings leave no room for flooding, and all
clients hold the one secret key: they are another protocol, and stand here for the size."""

KEYSERVICE = """\
Certificates and the guard are CPU seconds; caller and server share a process, and the same call
without a guard is taken away, so the difference is what identity, revocation, rate, policy and
validation cost. Audit events are wall time on SQLite with every commit synced: one alone waits
for the disk, whose own speed stands below it; many at once share the wait, and each is still whole
or absent."""

PEER = """\
Its masks are **not secure**: they come from the Mersenne Twister, whose 32-bit seed is the
exclusive or of the words of a 256-bit secret, so that 2^32 trials unmask a vector. It signs
nothing and has no consistency round. Its whole round runs in one process with its own server
workflow and its own client mod; messages are handed over as copies. Where 1000 clients are said
to come *from its primitives*, its measured primitives are multiplied by how often its workflow
calls them, and its message handling is left out."""

TRIED = """## What was tried

What helped, on the round above with the complete graph:

- Tiles of 128 KiB instead of 256 KiB, and 64 cipher contexts at a time instead of 256: zeros,
  keystream, vector and contexts then stay in a 1 MiB L2 cache. 7.7 to 8.5 GB/s on vectors of
  400 kB, 8.6 to 9.1 GB/s on 8 MiB. Smaller tiles pay more for each call (64 KiB: 8.1, 32 KiB: 7.1).
- Hashing shares once for both uses, and not part by part: ShareKeys from 2.2 s to 0.3 s.
- Joining a transcript once, and parsing each public key once: 2 of the 7 µs that a pairwise mask
  cost beside its X25519 operation. Remembering how lengths and roster indices are encoded: 0.5 µs.
- Shares as one byte string a message, without an index or an object for each, and routing as a
  transposition of one array: routing a million shares from 0.76 s to 0.03 s, the whole server at
  0 % gone to 0.54 of what it took, at 10 % to 0.83 (complete graph; both on a busy machine).
- Lagrange bases of many secrets at once, in tables of 512 KiB: 10 000 secrets of the sparse graph,
  t = 23, from 4.9 s to 0.2 s without their checks; 0.9 s with t = 86, the active profile's.
- A roster's entries as messages made once a round and copied for each client: 3.0 ms to 0.9 ms for
  a client of 1000 in the complete graph.

What did not help:

- Encrypting the zeros in place saves a buffer, but they have to be zeroed again: no gain.
- Tiles of 512 KiB: as fast on this machine, but they fill the L2 cache of a smaller one.
- Gathering shares when they are delivered instead of scattering them when they come, in blocks or
  not: the same cache misses, and twice the memory for a while.
- Checking, hashing and writing an upload in pieces of 64 to 256 KiB that stay in the L2 cache: each
  of the three is bound by its own work (0.24, 0.56 and 0.53 s for a GB), not by memory.
- Reading inputs back in smaller tiles than 1 MiB for the sum: 0.25 s for a GB, whatever the tile.
- Sharing one hash object among HKDF calls: within the noise.

What is left: a cipher context costs 3.3 µs to set up, 7 % of a mask of 400 kB, and the library has
no way to give one another key. HKDF costs 4 µs for each pair, most of it in making its objects."""
