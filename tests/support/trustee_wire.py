"""What an aggregator sends to a trustee, as messages of the contract."""

from finsecure.keyservice.v1 import trustee_pb2 as wire
from finsecure_crypto.homomorphic.decryption import RoundSubject

from tests.support.trustees import Bank


def header(bank: Bank) -> wire.DecryptionRequest:
    context, subject = bank.request.context, bank.request.context.subject
    assert isinstance(subject, RoundSubject)
    return wire.DecryptionRequest(
        federation=context.federation,
        round=wire.RoundSubject(
            task=subject.task,
            number=subject.number,
            attempt=subject.attempt,
            attempt_nonce=subject.attempt_nonce,
            model_digest=subject.model_digest,
            task_digest=subject.task_digest,
        ),
        encryption_key=context.key_name,
        key_digest=context.key_digest,
        minimum_cohort=context.minimum_cohort,
        maximum_cohort=context.maximum_cohort,
        layout_digest=context.layout_digest,
        contributions=bank.request.contributions,
        size_bytes=bank.request.size_bytes,
        manifest_digest=bank.request.manifest_digest,
        total_sha256=bank.request.total_sha256,
    )


def manifest(bank: Bank) -> wire.ManifestPage:
    return wire.ManifestPage(
        contributions=[
            wire.Contribution(
                client=item.client,
                sha256=item.sha256,
                signature=item.signature,
                certificate=item.certificate,
            )
            for item in bank.manifest
        ]
    )
