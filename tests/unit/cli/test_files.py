"""The files that people write: each is read strictly, and each mistake is named."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from finsecure.aggregation.v1 import tasks_pb2
from finsecure_aggregator.config import Configuration as AggregatorConfiguration
from finsecure_cli.convert import document, task_spec
from finsecure_cli.settings import load_operator
from finsecure_cli.task_file import TaskFile
from finsecure_cli.templates import Plan
from finsecure_client.config import read as read_client
from finsecure_crypto.errors import ConfigurationError, InvalidArgumentError
from finsecure_keyservice.config import Configuration as KeyServiceConfiguration
from finsecure_keyservice.trustee.config import Configuration as TrusteeConfiguration
from finsecure_rpc.config import load

ROOT = Path(__file__).parents[3]
TENSORS = (("layer.weight", (1, 4)), ("layer.bias", (1,)))
PLAN = Plan(
    "lending",
    "example.internal",
    ("bank-a", "bank-b", "bank-c"),
    "localhost",
    1,
    2,
    3,
    trustees=("trustee-1", "trustee-2"),
    trustee_port=7,
)
EXAMPLE = (ROOT / "examples" / "lending_club" / "task.toml").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clients").mkdir()
    (tmp_path / "trustees").mkdir()
    for name, text in PLAN.files().items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_templates_agree_with_the_services_that_read_them(folder: Path) -> None:
    keyservice = load(folder / "keyservice.toml", KeyServiceConfiguration)
    aggregator = load(folder / "aggregator.toml", AggregatorConfiguration)
    operator = load_operator(folder / "operator.toml")
    client = read_client(folder / "clients" / "bank-b.toml").client
    assert keyservice.domain == "example.internal"
    trustees = [
        load(folder / "trustees" / f"{trustee.id}.toml", TrusteeConfiguration)
        for trustee in operator.trustees
    ]
    assert [one.listen for one in trustees] == ["localhost:7", "localhost:8"]
    assert [one.openings.contributors for one in trustees] == [("bank-a", "bank-b", "bank-c")] * 2
    assert [one.address for one in operator.trustees] == ["localhost:7", "localhost:8"]
    for one in (aggregator, operator, client, *trustees):
        assert one.federation == "lending"
        assert one.root.resolve() == (folder / "root.pem").resolve()
        assert one.keyservice == keyservice.listen == "localhost:1"
        assert one.keyservice_enrol == keyservice.enrol_listen == "localhost:2"
    assert [one.address for one in aggregator.trustees] == ["localhost:7", "localhost:8"]
    assert operator.aggregator == client.aggregator == aggregator.listen == "localhost:3"
    # The second copy of the log is not where the database is, and each party has its own sums.
    assert keyservice.audit_file == folder / "audit.jsonl"
    assert keyservice.state_dir not in keyservice.audit_file.parents
    sums = tomllib.loads((folder / "clients" / "bank-b.toml").read_text())["sums"]
    assert sums["sums"] == []
    fewest = {one.openings.minimum_sum_cohort for one in trustees}
    assert {aggregator.sums.minimum_contributors, sums["minimum_contributors"]} == fewest
    identities = {operator.identity_dir, aggregator.identity_dir, client.identity_dir}
    assert len(identities) == 3


def test_template_of_a_task_keeps_the_contract(folder: Path) -> None:
    spec = task_spec(LENDING, load(folder / "task.toml", TaskFile), TENSORS)
    assert spec.cohort.minimum == 3
    assert spec.cohort.maximum == 3


@pytest.mark.parametrize("clients", [2, 3, 4, 5, 12, 40])
def test_clients_accept_the_task_that_was_written_with_them(clients: int, tmp_path: Path) -> None:
    plan = replace(PLAN, clients=tuple(f"bank-{number}" for number in range(clients)))
    files = plan.files()
    task = tomllib.loads(files["task.toml"])
    pinned = tomllib.loads(files["clients/bank-0.toml"])["policy"]
    cohort = task["cohort"]
    assert pinned["minimum_cohort"] <= cohort["minimum"] <= cohort["maximum"] == clients
    smallest_active_threshold = 2 * cohort["minimum"] // 3 + 1
    assert pinned["minimum_threshold"] <= smallest_active_threshold
    assert task["security"]["profile"] == pinned["minimum_profile"] == "active"


def test_every_template_line_is_commented_or_plain(folder: Path) -> None:
    for name in PLAN.files():
        text = (folder / name).read_text()
        assert text.startswith("# "), name
        assert "$" not in text, name


LENDING = "federations/lending"


def spec_of(text: str, tmp_path: Path) -> tasks_pb2.TaskSpec:
    path = tmp_path / "task.toml"
    path.write_text(text)
    return task_spec(LENDING, load(path, TaskFile), TENSORS)


def test_example_task_becomes_the_spec_that_it_says(tmp_path: Path) -> None:
    spec = spec_of(EXAMPLE, tmp_path)
    assert spec.model.factory == "model:build"
    assert [tensor.name for tensor in spec.model.tensors] == ["layer.weight", "layer.bias"]
    assert list(spec.model.tensors[0].shape) == [1, 4]
    assert spec.rounds == 20
    assert spec.interval.ToNanoseconds() == 1_500_000_000
    assert spec.features.features[0].numeric.maximum == 40000
    assert spec.features.features[2].numeric.logarithmic
    assert list(spec.features.features[17].categorical.values) == ["term_36", "term_60"]
    assert spec.features.standardise
    assert spec.security.profile == tasks_pb2.SECURITY_PROFILE_ACTIVE
    assert not spec.security.HasField("sparse_graph")
    assert spec.server_optimizer.kind == tasks_pb2.SERVER_OPTIMIZER_AVERAGE
    assert spec.deadlines.submit_input.seconds == 30
    assert not spec.HasField("convergence")


def test_optional_sections_reach_the_spec(tmp_path: Path) -> None:
    text = EXAMPLE.replace(
        "[encoding]",
        "[security.sparse_graph]\ncorrupt_fraction = 0.05\ndropout_fraction = 0.3\n\n"
        "[convergence]\npatience = 3\nminimum_decrease = 0.01\n\n[encoding]",
    ).replace('kind = "average"', 'kind = "adam"\nbeta1 = 0.9\nbeta2 = 0.99\ntau = 0.001')
    spec = spec_of(text, tmp_path)
    assert spec.security.sparse_graph.dropout_fraction == pytest.approx(0.3)
    assert spec.convergence.patience == 3
    assert spec.server_optimizer.kind == tasks_pb2.SERVER_OPTIMIZER_ADAM
    assert spec.server_optimizer.beta2 == pytest.approx(0.99)


def test_an_encrypted_task_names_its_key_and_its_two_deadlines(tmp_path: Path) -> None:
    text = EXAMPLE.replace('profile = "active"', 'protection = "bgv"\nencryption_key = "first"')
    spec = spec_of(text, tmp_path)
    assert spec.security == tasks_pb2.SecuritySpec(
        protection=tasks_pb2.PROTECTION_BGV,
        encryption_key="federations/lending/encryptionKeys/first",
    )
    assert {field.name for field, _ in spec.deadlines.ListFields()} == {"submit_input", "opening"}


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('profile = "active"', 'encryption_key = "first"', "encryption_key"),
        ('profile = "active"', 'protection = "ckks"', "needs an encryption_key"),
        ('profile = "active"', 'profile = "active"\nprotection = "ckks"', "encryption_key"),
        (
            'profile = "active"',
            'profile = "active"\nprotection = "ckks"\nencryption_key = "first"',
            "no profile",
        ),
        ("rounds = 20", "rounds = 20\nround = 3", "round"),
        ("rounds = 20", "rounds = 'many'", "rounds"),
        ("rounds = 20", "rounds = -1", "rounds"),
        ("rounds = 20", "", "rounds"),
        ('name = "credit-default"', 'name = "Credit Default"', "name"),
        ("epochs = 5", "epochs = 5\nlearning-rate = 1", "learning-rate"),
        ('profile = "active"', 'profile = "lax"', "profile"),
        ("clip_norm = 2.0", "clip_norm = inf", "clip_norm"),
        ("clip_norm = 2.0", "clip_norm = nan", "clip_norm"),
        ("submit_input_s = 30", "submit_input_s = 0", "submit_input_s"),
        ("rounds = 20", "rounds = [", "TOML"),
    ],
)
def test_mistake_in_a_task_file_is_named(old: str, new: str, named: str, tmp_path: Path) -> None:
    assert old in EXAMPLE
    with pytest.raises(ConfigurationError, match=named) as raised:
        spec_of(EXAMPLE.replace(old, new), tmp_path)
    assert raised.value.code == "CONFIG_INVALID"
    assert "task.toml" in raised.value.message


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("value_bits = 16", "value_bits = 4", "encoding.value_bits"),
        ("rounds = 20", "rounds = 0", "rounds"),
        ("clip_value = 0.5", "clip_value = 0", "encoding.clip_value"),
        ("minimum = 4 ", "minimum = 1 ", "cohort.minimum"),
        ("learning_rate = 1.0", "learning_rate = 1000.0", "server_optimizer.learning_rate"),
        ('factory = "model:build"', 'factory = "model"', "model.factory"),
    ],
)
def test_value_outside_the_contract_is_named(
    old: str, new: str, field: str, tmp_path: Path
) -> None:
    assert old in EXAMPLE
    with pytest.raises(InvalidArgumentError, match=field) as raised:
        spec_of(EXAMPLE.replace(old, new), tmp_path)
    assert raised.value.code == "INVALID_MESSAGE"


def test_inputs_count_numbers_and_categories(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text(EXAMPLE)
    assert load(path, TaskFile).inputs == 17 + 2 + 3 + 12


def test_json_documents_have_one_shape() -> None:
    round_ = tasks_pb2.Round(
        name="federations/f1/tasks/t1/rounds/3-1",
        number=3,
        kind=tasks_pb2.ROUND_KIND_TRAINING,
        state=tasks_pb2.ROUND_STATE_SUBMIT_INPUT,
        invited=["b", "a"],
        phases=[tasks_pb2.RoundPhase(phase=tasks_pb2.ROUND_STATE_SHARE_KEYS, clients=["a"])],
        received_bytes={"b": 2**40, "a": 1},
    )
    round_.start_time.FromJsonString("2026-01-02T03:04:05.5Z")
    shown = document(round_)
    assert shown["state"] == "submit_input"
    assert shown["kind"] == "training"
    assert shown["phases"] == [{"phase": "share_keys", "clients": ["a"]}]
    assert shown["received_bytes"] == {"a": 1, "b": 2**40}
    assert shown["start_time"] == "2026-01-02T03:04:05.500Z"
    assert "end_time" not in shown
    assert "metrics" not in shown
    assert shown["abort_reason"] == ""
    assert "auc" not in document(tasks_pb2.RoundMetrics())
    assert document(tasks_pb2.RoundMetrics(auc=0.0))["auc"] == 0.0
    spec = tasks_pb2.TaskSpec()
    spec.interval.FromMilliseconds(1500)
    assert document(spec)["interval"] == 1.5
