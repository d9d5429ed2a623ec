"""A model version is read only if its file is the one that was signed."""

import pytest
from finsecure_aggregator.blobs import Blobs
from finsecure_aggregator.models import ModelKeeper
from finsecure_aggregator.quarantine import Quarantine
from finsecure_crypto.errors import IntegrityError
from finsecure_rpc.database import open_database

from tests.support.federation import initial_model, task_spec
from tests.support.pki import TestAuthority


def test_a_file_that_was_changed_on_disk_is_not_used(tmp_path, plan):
    blobs = Blobs(tmp_path / "blobs")
    signers = TestAuthority().enrol(tmp_path / "identity", "aggregator", "main")
    keeper = ModelKeeper(blobs, signers, Quarantine(open_database("sqlite://")))
    record = keeper.first(plan, initial_model(task_spec()), now_ns=1)
    assert keeper.tensors(record).keys() == {tensor.name for tensor in plan.terms.tensors}

    [path] = (tmp_path / "blobs" / "models").rglob("0.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError) as refused:
        keeper.tensors(record)
    assert refused.value.code == "MODEL_DAMAGED"
