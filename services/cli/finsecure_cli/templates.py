"""The configuration files that `finsecure init` writes, commented; tests parse each strictly."""

from dataclasses import dataclass, field
from string import Template


@dataclass(frozen=True)
class Plan:
    """What a federation's configuration files have to agree on.

    Attributes:
        federation: id of the federation.
        domain: domain of the key service; identities end in it.
        clients: ids of the clients.
        host: host name or address that all services listen on and are reached at.
        keyservice_port: of the key service, for enrolled members.
        enrol_port: of the key service, for enrolment.
        aggregator_port: of the aggregator.
        trustees: ids of the trustees.
        trustee_port: of the first trustee; the others have the next ones.
    """

    federation: str
    domain: str
    clients: tuple[str, ...]
    host: str
    keyservice_port: int
    enrol_port: int
    aggregator_port: int
    trustees: tuple[str, ...] = field(default=(), kw_only=True)
    trustee_port: int = field(default=7643, kw_only=True)

    def files(self) -> dict[str, str]:
        """Return the text of each file by its path below the federation's folder."""
        # What a client insists on, and a task that all of them accept.
        pinned = max(2, min(len(self.clients), 3))
        values = {
            "federation": self.federation,
            "domain": self.domain,
            "keyservice": f"{self.host}:{self.keyservice_port}",
            "keyservice_enrol": f"{self.host}:{self.enrol_port}",
            "aggregator": f"{self.host}:{self.aggregator_port}",
            "pinned": str(pinned),
            "minimum": str(max(pinned, min(len(self.clients) - 1, 10))),
            "maximum": str(max(2, len(self.clients))),
            "protections": ", ".join(f'"{name}"' for name in self._protections),
            "contributors": ", ".join(f'"{client}"' for client in self.clients),
            "trustees": ", ".join(f'"{trustee}"' for trustee in self.trustees),
            "dealt_keys": str(bool(self.trustees)).lower(),
        }
        files = {
            "keyservice.toml": KEYSERVICE,
            "aggregator.toml": AGGREGATOR,
            "operator.toml": OPERATOR,
            "task.toml": TASK,
        }
        texts = {name: Template(text).substitute(values) for name, text in files.items()}
        for trustee, address in self._trustee_addresses().items():
            texts[f"trustees/{trustee}.toml"] = Template(TRUSTEE).substitute(
                values, trustee=trustee, address=address
            )
            listed = Template(TRUSTEE_ADDRESS).substitute(trustee=trustee, address=address)
            for name in ("operator.toml", "aggregator.toml"):
                texts[name] += listed
        for client in self.clients:
            texts[f"clients/{client}.toml"] = Template(CLIENT).substitute(values, client=client)
        return texts

    @property
    def _protections(self) -> tuple[str, ...]:
        return ("masks", "bgv", "ckks", "paillier") if self.trustees else ("masks",)

    def _trustee_addresses(self) -> dict[str, str]:
        return {
            trustee: f"{self.host}:{self.trustee_port + index}"
            for index, trustee in enumerate(self.trustees)
        }


KEYSERVICE = """\
# The key service of this federation. Unknown keys are errors; paths count from this file.

# Identities end in this domain: spiffe://$federation.$domain/client/...
# It is written into the root certificate and cannot be changed afterwards.
domain = "$domain"
# Where enrolled members connect, with their certificates (mutual TLS).
listen = "$keyservice"
# Where newcomers spend their API keys; only the server proves itself there.
enrol_listen = "$keyservice_enrol"
# The authority's keys and certificates, and the register of members: private, to be backed up.
state_dir = "keyservice"
database = "keyservice/keyservice.db"
# Second copy of the audit log: the service does not start on an older copy of its database. It
# belongs on another machine or disk than the database: move it there, such as a network mount.
audit_file = "audit.jsonl"
# Members renew their certificates at half of this.
certificate_lifetime_h = 24
"""

AGGREGATOR = """\
# The aggregator of this federation. Unknown keys are errors; paths count from this file.

federation = "$federation"
# The aggregator's own keys and certificates; `finsecure-aggregator enrol` makes the folder.
identity_dir = "aggregator/identity"
# Root certificate of the key service: decides whom to believe.
root = "root.pem"
keyservice = "$keyservice"
keyservice_enrol = "$keyservice_enrol"
# Where clients and operators connect.
listen = "$aggregator"
# The log of accepted messages and, beside it, inputs and models: to be backed up.
database = "aggregator/aggregator.db"
blob_dir = "aggregator/blobs"

# Audited sums, for which members contribute encrypted integers by label.
[sums]
# Fewest contributors whose total is opened. Trustees and members have a minimum of their own.
minimum_contributors = 50
# Most sums of one member or operator that have not ended.
at_once = 20
"""

OPERATOR = """\
# What `finsecure` needs to administer this federation (option --config, or FINSECURE_CONFIG).

federation = "$federation"
# The operator's own keys and certificates; `finsecure operator enrol` makes the folder.
identity_dir = "operator"
# Root certificate of the key service: decides whom to believe.
root = "root.pem"
keyservice = "$keyservice"
keyservice_enrol = "$keyservice_enrol"
aggregator = "$aggregator"
# With `finsecure --token-file`: the aggregator's operator_listen, if it has one.
# aggregator_operators = "…:7544"

# What `finsecure up` opens the federation with: fewest clients whose inputs are summed, and fewest
# members of an audited sum. Later, `finsecure federation update` changes it: one operator raises
# it, two security officers lower it. Nobody's own minimum is lowered by it.
[new_federation]
minimum_cohort = $pinned
minimum_sum_cohort = 50
"""

TRUSTEE_ADDRESS = """
# A trustee, and where it listens.
[[trustees]]
id = "$trustee"
address = "$address"
"""

TRUSTEE = """\
# The trustee $trustee. It belongs to another owner than the aggregator and the other trustees: move
# it to a machine of its own. Unknown keys are errors; paths count from this file.

federation = "$federation"
# The trustee's own keys and certificates; `finsecure-trustee enrol` makes the folder.
identity_dir = "$trustee/identity"
# Root certificate of the key service: decides whom to believe.
root = "../root.pem"
keyservice = "$keyservice"
keyservice_enrol = "$keyservice_enrol"
# Where the aggregator and operators connect.
listen = "$address"
# Wrapped shares, what was opened, and the log of all decisions: to be backed up, never put back.
database = "$trustee/trustee.db"
# Second copy of the log: the trustee does not start on an older copy of its database. Move it to
# storage that another host owns.
audit_file = "$trustee/audit.jsonl"
# Whether shares are taken from a dealer, who has seen the whole key. Paillier keys need one.
dealt_keys = true

# Where the key lies that wraps the shares: here, or in a PKCS#11 token.
[protection]
kind = "file"
key_file = "$trustee/wrapping.key"

[openings]
# Fewest contributions whose sum this trustee helps to open.
minimum_round_cohort = $pinned
minimum_sum_cohort = 50
# Most sums that are opened with one key.
decryptions_per_key = 1000
# Who counts as a contributor. One contributor and the aggregator together can open another's input,
# and whoever enrols members could invent one: so this names the members that you know. When one
# joins, make sure that it exists, add its id here, restart the trustee; until then it is left out.
contributors = [$contributors]
"""

CLIENT = """\
# The client daemon of $client. Everything here is the party's own decision; no server sets it.
# Unknown keys are errors; paths count from this file.

[client]
federation = "$federation"
# The party's keys and certificates; `finsecure client enrol` makes the folder.
identity_dir = "$client/identity"
# Root certificate of the key service, from a trusted hand: decides whom to believe.
root = "../root.pem"
keyservice = "$keyservice"
keyservice_enrol = "$keyservice_enrol"
aggregator = "$aggregator"
# Downloaded models, the revocation list, and ledger.json: which rounds got an input. Keep that one.
state_dir = "$client/state"
# Seconds between two looks for new tasks.
poll_interval_s = 2.0

[data]
# The party's table (.csv, .csv.gz or .parquet). It never leaves this machine.
path = "../data/$client.csv"
# Share of the rows that is kept for measuring the global model instead of training on it.
validation_fraction = 0.1
seed = 0

[trainer]
kind = "torch"
# Model code that a task may ask for. It is imported from python_path and never travels: read it
# before you allow it.
models = ["model:build"]
python_path = ["../models"]
# Federated averaging was made for plain stochastic gradient descent; adamw is the other choice.
optimizer = "sgd"

[policy]
# Tasks to take part in, by pattern.
tasks = ["*"]
# Fewest clients among whom the party's update is hidden, and fewest shares that rebuild a secret.
minimum_cohort = $pinned
minimum_threshold = $pinned
# How the update may be protected: masks, or encryption by paillier, bgv or ckks under a key whose
# shares trustees hold. There, the aggregator can open it together with two trustees; with bgv and
# ckks also together with one other contributor. Masks have neither weakness.
protections = [$protections]
# The trustees who may hold shares of a key. Whoever enrols members could enrol others of its own.
trustees = [$trustees]
# Whether a key is accepted whose shares a dealer has made, who had all of it for a moment.
dealt_keys = $dealt_keys
# The aggregator may be malicious and still learns nothing but the sum.
minimum_profile = "active"

[sums]
# Audited sums to contribute to, by pattern; none until you name some. Sums of nearly the same
# members and labels give single values away: allow few.
sums = []
# Fewest members among whom the party's values are hidden, and the largest value that leaves.
minimum_contributors = 50
maximum_value = 1_000_000_000_000

[egress]
# Where it is written down what leaves this machine: `finsecure client egress` shows it.
manifest = "$client/egress.jsonl"
"""

TASK = """\
# A training task. Adapt it to your data, then: finsecure task create task.toml
# Unknown keys are errors. All of it is public within the federation and never changes.

name = "first-task"
rounds = 20
# Seconds from the start of one round to the start of the next, such as 86400 for one a day.
# Without it the next round starts at once.
# interval_s = 86400

[model]
# Code of the model, `module:function`; each client must have it and allow it.
factory = "model:build"

[features]
# Column with the outcome, and its value that counts as positive.
label = "outcome"
positive_value = "1"
# Means and variances are computed in a first round, under the mask.
standardise = true
# In the order in which the model sees them: numbers within public bounds, and lists of values.
columns = [
  { column = "amount", minimum = 0, maximum = 10000, logarithmic = true },
  { column = "channel", values = ["card", "online", "branch"] },
]

[training]
epochs = 1
batch_size = 64
learning_rate = 0.1
weight_decay = 0.001
# Weight of a positive example in the loss; about negatives divided by positives, or less.
positive_weight = 10.0
# Pull towards the global model (FedProx); 0 turns it off.
proximal = 0.0

[cohort]
# Fewest clients whose updates may be summed, and most that are chosen for a round.
minimum = $minimum
maximum = $maximum
# Most examples that count as a client's weight, so that none dominates.
weight_cap = 2000

[security]
# masks: clients hide their updates from the aggregator by masks that cancel in the sum. paillier,
# bgv, ckks: they encrypt them under the key that encryption_key names, which trustees open.
protection = "masks"
# encryption_key = "first"
# Of masks only. active: holds against a cheating aggregator; semi_honest: against a curious one.
profile = "active"

[encoding]
# An update is clipped to clip_norm, its coordinates to clip_value, and rounded to value_bits.
value_bits = 16
clip_norm = 2.0
clip_value = 0.5
# Bins of the summed score histogram, for the AUC; 0 turns it off.
score_bins = 64

[server_optimizer]
# average (plain federated averaging), momentum or adam.
kind = "average"
learning_rate = 1.0

# Ends the task when the global loss has settled.
# [convergence]
# patience = 10
# minimum_decrease = 0.001

[deadlines]
# How long each phase of a round waits for its slowest client.
advertise_keys_s = 30
share_keys_s = 30
submit_input_s = 600
confirm_survivors_s = 30
reveal_shares_s = 30
# Encryption has two phases: submit_input_s, and opening_s for the trustees.
# opening_s = 600
"""
