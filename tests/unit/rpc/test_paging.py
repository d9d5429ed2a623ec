import base64

import pytest
from finsecure.keyservice.v1 import members_pb2
from finsecure_crypto.errors import ConflictError, InvalidArgumentError
from finsecure_rpc.database import open_database
from finsecure_rpc.idempotency import once, request_table
from finsecure_rpc.paging import decode_token, encode_token, page_size
from sqlalchemy import MetaData


def test_page_sizes():
    assert page_size(0) == 100
    assert page_size(1000) == 1000
    for wrong in (-1, 1001):
        with pytest.raises(InvalidArgumentError, match="PAGE_SIZE_INVALID"):
            page_size(wrong)


def test_a_token_comes_back():
    token = encode_token("members", ("bank-a", 7))
    assert decode_token(token, "members", (str, int)) == ("bank-a", 7)
    assert decode_token("", "members", (str, int)) is None


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "!!!!",
        "A" * 600,
        base64.urlsafe_b64encode(b"[" * 300).decode(),
        base64.urlsafe_b64encode(b"5").decode(),
        base64.urlsafe_b64encode(b"{}").decode(),
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(b"\xff\xff").decode(),
        encode_token("other", ("bank-a", 7)),
        encode_token("members", ("bank-a",)),
        encode_token("members", ("bank-a", "7")),
        encode_token("members", ("bank-a", True)),
        encode_token("members", ("bank-a", 2**63)),
        encode_token("members", ("bank-a", -(2**63) - 1)),
        encode_token("members", ("bank-\udcff", 7)),
    ],
)
def test_another_token_is_refused(token):
    with pytest.raises(InvalidArgumentError, match="PAGE_TOKEN_INVALID"):
        decode_token(token, "members", (str, int))


class TestOnce:
    @pytest.fixture
    def database(self):
        opened = open_database("sqlite://")
        yield opened
        opened.close()

    @pytest.fixture
    def ask(self, database):
        metadata = MetaData()
        table = request_table(metadata)
        database.run_sync(metadata.create_all)
        self.acted = 0

        def act():
            self.acted += 1
            return members_pb2.IssueApiKeyResponse(api_key=f"key {self.acted}")

        def ask(request, caller="alice", act=act, stored=None):
            return database.run_sync(
                lambda connection: once(
                    connection,
                    table,
                    caller,
                    request,
                    members_pb2.IssueApiKeyResponse,
                    act,
                    stored=stored,
                )
            )

        return ask

    @staticmethod
    def request(name="operators/bob", request_id="b2b8d3f4-5d0c-4a3e-9d1c-0e9f3c1d2a4b"):
        return members_pb2.IssueApiKeyRequest(name=name, request_id=request_id)

    def test_a_repeated_request_gets_the_first_answer(self, ask):
        assert ask(self.request()).api_key == "key 1"
        assert ask(self.request()).api_key == "key 1"
        assert self.acted == 1

    def test_another_request_with_the_same_id_conflicts(self, ask):
        ask(self.request())
        with pytest.raises(ConflictError, match="REQUEST_ID_CONFLICT"):
            ask(self.request("operators/carol"))
        assert self.acted == 1

    def test_ids_of_different_callers_never_meet(self, ask):
        ask(self.request())
        assert ask(self.request("operators/carol"), caller="mallory").api_key == "key 2"

    def test_what_is_shown_once_is_not_kept(self, ask):
        def without_key(_):
            return members_pb2.IssueApiKeyResponse()

        assert ask(self.request(), stored=without_key).api_key == "key 1"
        assert ask(self.request(), stored=without_key).api_key == ""

    def test_a_failure_is_not_remembered(self, ask):
        def fail():
            raise RuntimeError

        with pytest.raises(RuntimeError):
            ask(self.request(), act=fail)
        assert ask(self.request()).api_key == "key 1"
