import re
from pathlib import Path

import finsecure_client
import pytest
from finsecure_client import config
from finsecure_crypto.errors import ConfigurationError
from finsecure_crypto.secagg.parameters import Profile
from finsecure_rpc.console import exit_code

EXAMPLE = Path(finsecure_client.__file__).parents[1] / "config.example.toml"


NONE: dict[str, object] = {"trustees": (), "model_key": None}


def test_example_is_valid_and_says_the_defaults(tmp_path: Path) -> None:
    plain = config.read(EXAMPLE)
    text = EXAMPLE.read_text()
    # Every commented key shows its default, so uncommenting all of them changes nothing but the
    # seed, the trustees and the model key, whose default is that there are none.
    full = tmp_path / "client.toml"
    full.write_text(re.sub(r"(?m)^#(?=[a-z_]+ = )", "", text))
    uncommented = config.read(full)
    assert uncommented.policy.model_copy(update=NONE) == plain.policy
    assert uncommented.trainer is not None
    assert plain.trainer is not None
    assert uncommented.trainer.seed == 0
    assert plain.trainer.seed is None
    assert uncommented.sums == plain.sums == config.SumSettings()
    assert uncommented.egress.rotate_mib == plain.egress.rotate_mib
    assert uncommented.client.poll_interval_s == plain.client.poll_interval_s
    keys = {
        name
        for model in (
            config.ClientSettings,
            config.DataSettings,
            config.TrainerSettings,
            config.PolicySettings,
            config.SumSettings,
            config.EgressSettings,
        )
        for name in model.model_fields
    }
    assert keys == set(re.findall(r"(?m)^#?([a-z_]+) = ", text))


def test_paths_count_from_the_file() -> None:
    read = config.read(EXAMPLE)
    assert read.client.identity_dir == EXAMPLE.parent / "identity"
    assert read.trainer is not None
    assert read.trainer.python_path == (EXAMPLE.parent / "models",)
    assert read.egress.manifest == EXAMPLE.parent / "state" / "egress.jsonl"


def test_policy_takes_what_is_pinned() -> None:
    policy = config.read(EXAMPLE).make_policy()
    assert policy.tasks == ("credit-*",)
    assert policy.models == frozenset({"credit_model:logistic"})
    assert policy.security.minimum_cohort == 3
    assert policy.security.minimum_profile is Profile.ACTIVE


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ('federation = "lending"', 'federation = "Lending"', "client.federation"),
        ('tasks = ["credit-*"]', "tasks = []", "policy.tasks"),
        ('tasks = ["credit-*"]', 'tasks = ["*"]\nminimum_kohort = 3', "minimum_kohort"),
        ("#minimum_cohort = 3", "minimum_cohort = 1", "policy.minimum_cohort"),
        ('#minimum_profile = "active"', 'minimum_profile = "none"', "policy.minimum_profile"),
        ('models = ["credit_model:logistic"]', 'models = ["rm -rf"]', "trainer.models"),
        ("#validation_fraction = 0.2", "validation_fraction = 1.0", "validation_fraction"),
        ('keyservice = "keyservice.example.com:7443"', 'keyservice = "here"', "client.keyservice"),
        ("[egress]", "[egress", "TOML"),
    ],
)
def test_wrong_keys_are_named(tmp_path: Path, old: str, new: str, hint: str) -> None:
    path = tmp_path / "client.toml"
    text = EXAMPLE.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError) as caught:
        config.read(path)
    assert caught.value.code == "CONFIG_INVALID"
    assert hint in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.read(tmp_path / "absent.toml")
    assert caught.value.code == "CONFIG_MISSING"
    assert exit_code(caught.value) == 2


def test_trainer_needs_its_sections(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    text = EXAMPLE.read_text()
    path.write_text(text[: text.index("[data]")] + text[text.index("[policy]") :])
    without = config.read(path)
    assert without.make_policy().models is None
    with pytest.raises(ConfigurationError) as caught:
        without.make_trainer()
    assert caught.value.code == "TRAINER_NOT_CONFIGURED"
