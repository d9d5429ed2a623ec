"""The root's key is made in a token of its own, signs there, and is never in a file."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from finsecure.keyservice.v1 import authorities_pb2 as authorities
from finsecure.keyservice.v1 import authorities_pb2_grpc as authorities_grpc
from finsecure_crypto.errors import ConfigurationError
from finsecure_keyservice.config import Configuration
from finsecure_keyservice.founding import found
from finsecure_keyservice.main import app
from finsecure_keyservice.protection.settings import RootToken
from finsecure_rpc.config import load
from finsecure_rpc.root_signing import read_certificate, write_request
from typer.testing import CliRunner, Result

from tests.support.keyservice import START
from tests.support.keyservice_deployment import BANK, Deployment, deployed, new_id
from tests.support.softhsm import SoftToken, needs_softhsm, new_token

LIMITS = {"enrolment_calls_per_s": 1000, "member_calls_per_s": 10_000}
EXAMPLE = Path(__file__).parents[3] / "services" / "keyservice" / "root-token.example.toml"


def place(token: SoftToken) -> RootToken:
    settings = {name: value for name, value in token.settings.items() if name != "kind"}
    return RootToken.model_validate(settings)


def root_keys(folder: Path) -> list[Path]:
    return list(folder.rglob("*root.key"))


def named(folder: Path, token: SoftToken, **changes: str) -> Path:
    """The file that names a token, as people write it."""
    values = {**place(token).model_dump(mode="json"), **changes}
    path = folder / "root-token.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))
    return path


def sign(folder: Path, root: Path, token: Path) -> Result:
    """What happens on the machine without a network."""
    csr, out = str(folder / "next.csr"), str(folder / "next.pem")
    options = ["--root", str(root), "--root-token", str(token), "--out", out, "--days", "30"]
    return CliRunner().invoke(app, ["ca-sign", csr, *options])


async def step(keyservice: Deployment, method: str, **fields: object) -> authorities.Authority:
    request = getattr(authorities, f"{method}Request")(request_id=new_id(), **fields)
    stub = keyservice.operator.stub(authorities_grpc.AuthorityServiceStub)
    return (await keyservice.operator.call(getattr(stub, method), request)).authority


@needs_softhsm
async def test_an_authority_is_certified_by_a_root_that_is_in_no_file(tmp_path: Path) -> None:
    safe, own, other = (new_token(tmp_path) for _ in range(3))
    async with deployed(
        tmp_path, root_key=place(safe), limits=LIMITS, protection=own.settings
    ) as keyservice:
        root = x509.load_pem_x509_certificate(keyservice.root_pem)
        key = root.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert isinstance(root.signature_hash_algorithm, hashes.SHA256)
        assert keyservice.founded.root_key is None
        assert not root_keys(tmp_path)
        # The token goes into the safe, and the service does not miss it.
        safe.remove()
        await keyservice.stop()
        await keyservice.restart()
        await keyservice.create(BANK)
        made = await step(keyservice, "PrepareAuthority")
        write_request(tmp_path / "next.csr", made.csr)
        refused = sign(tmp_path, keyservice.founded.root, named(tmp_path, safe))
        assert getattr(refused.exception, "code", "") == "TOKEN_NOT_PRESENT"
        safe.bring_back()
        # Another token, or another label, has no such key.
        for wrong in (named(tmp_path, other), named(tmp_path, safe, key_label="other")):
            refused = sign(tmp_path, keyservice.founded.root, wrong)
            assert getattr(refused.exception, "code", "") == "TOKEN_KEY_MISSING"
        assert not (tmp_path / "next.pem").exists()
        signed = sign(tmp_path, keyservice.founded.root, named(tmp_path, safe))
        assert signed.exit_code == 0, signed.output
        der = read_certificate(tmp_path / "next.pem")
        installed = await step(keyservice, "InstallAuthority", name=made.name, certificate=der)
        assert installed.state == authorities.AUTHORITY_STATE_PREPARED
        x509.load_der_x509_certificate(der).verify_directly_issued_by(root)


@needs_softhsm
def test_the_roots_token_is_not_the_services_own(tmp_path: Path) -> None:
    token = new_token(tmp_path)
    configuration = Configuration.model_validate(
        {
            "domain": "finsecure.test",
            "listen": "127.0.0.1:0",
            "enrol_listen": "127.0.0.1:0",
            "state_dir": tmp_path / "state",
            "database": str(tmp_path / "keyservice.db"),
            "protection": token.settings,
        }
    )
    with pytest.raises(ConfigurationError, match="ROOT_TOKEN_SHARED"):
        found(configuration, "alice", None, place(token), START)
    assert not configuration.state_dir.exists()


def test_the_example_says_every_setting_and_the_default() -> None:
    example = load(EXAMPLE, RootToken)
    assert example.key_label == RootToken.model_fields["key_label"].default
    for name in RootToken.model_fields:
        assert f"\n{name} = " in EXAMPLE.read_text()


def test_the_key_goes_into_one_place(tmp_path: Path) -> None:
    config = tmp_path / "keyservice.toml"
    both = ["--root-key", "root.key", "--root-token", "root-token.toml"]
    refused = CliRunner().invoke(app, ["init", "--config", str(config), *both])
    assert refused.exit_code == 2
