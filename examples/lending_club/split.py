"""Cut the loans into one CSV file for each bank and a test set that no bank has.

    python split.py --by grade --out DIR

Each bank's loans and the test set are drawn so that both hold the same share of defaults.
"""

import argparse
import csv
import gzip
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("lending_club.csv.gz")
LABEL = "Class"
# What says which bank a loan is in would give the split away, so no bank's file has it.
DROPPED = ("sub_grade", "addr_state")
TEST_FRACTION = 0.3
TEST_FILE = "test.csv"

GRADES = {"A": "bank-a", "B": "bank-b", "C": "bank-c", "D": "bank-d"}
REST_OF_GRADES = "bank-e"

STATES = {"CA": "california", "TX": "texas", "NY": "new-york", "FL": "florida"}
REGIONS = {
    "northeast": "CT DC DE MA MD ME NH NJ PA RI VT",
    "south": "AL AR GA KY LA MS NC OK SC TN VA WV",
    "midwest": "IA IL IN KS MI MN MO ND NE OH SD WI",
    "west": "AK AZ CO HI ID MT NM NV OR UT WA WY",
}
_REGION = {state: region for region, states in REGIONS.items() for state in states.split()}

Loan = Mapping[str, str]


def bank_by_grade(loan: Loan) -> str:
    """Return the bank of a loan: one each for grades A to D, one for E, F and G."""
    return GRADES.get(loan["sub_grade"][0], REST_OF_GRADES)


def bank_by_state(loan: Loan) -> str:
    """Return the bank of a loan: one each for the four largest states, one for each region."""
    state = loan["addr_state"]
    return STATES.get(state) or _REGION[state]


SPLITS = {"grade": bank_by_grade, "state": bank_by_state}


def split(
    loans: Sequence[Loan], by: str, test_fraction: float, seed: int
) -> tuple[dict[str, list[Loan]], list[Loan]]:
    """Return the loans of each bank, by its id, and the test set; all in random order."""
    cells: dict[tuple[str, str], list[Loan]] = {}
    for loan in loans:
        cells.setdefault((SPLITS[by](loan), loan[LABEL]), []).append(loan)
    rng = random.Random(seed)  # noqa: S311 - a repeatable split, not a secret
    banks: dict[str, list[Loan]] = {}
    test: list[Loan] = []
    for (bank, _), cell in sorted(cells.items()):
        rng.shuffle(cell)
        kept_out = round(test_fraction * len(cell))
        test += cell[:kept_out]
        banks.setdefault(bank, []).extend(cell[kept_out:])
    for part in (*banks.values(), test):
        rng.shuffle(part)
    return banks, test


def read(path: Path = SOURCE) -> list[Loan]:
    """Read the loans."""
    with gzip.open(path, "rt", newline="") as stream:
        return list(csv.DictReader(stream))


def write(path: Path, loans: Sequence[Loan]) -> None:
    """Write loans without the columns that tell the bank."""
    columns = [column for column in loans[0] if column not in DROPPED]
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(loans)


def main() -> None:
    """Split the loans as the command line says."""
    parser = argparse.ArgumentParser(description="Cut the loans into banks and a test set.")
    parser.add_argument("--by", choices=SPLITS, default="grade")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--test", type=Path, metavar="FILE", help="default: DIR/test.csv")
    parser.add_argument("--test-fraction", type=float, default=TEST_FRACTION, metavar="SHARE")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    banks, test = split(read(), options.by, options.test_fraction, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    for bank, loans in banks.items():
        write(options.out / f"{bank}.csv", loans)
        bad = sum(loan[LABEL] == "bad" for loan in loans)
        print(f"{bank}: {len(loans)} loans, {bad / len(loans):.1%} bad")
    write(options.test or options.out / TEST_FILE, test)
    print(f"test set: {len(test)} loans")


if __name__ == "__main__":
    main()
