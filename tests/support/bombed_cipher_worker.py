"""The aggregator's worker for ciphertexts, which dies of an input that begins with BOOM."""

import os
from pathlib import Path

from finsecure_aggregator import cipher_worker

_check = cipher_worker.Work.check


def check(self, request):
    if Path(request["path"]).read_bytes().startswith(b"BOOM"):
        os.abort()
    return _check(self, request)


cipher_worker.Work.check = check

if __name__ == "__main__":
    cipher_worker.main()
