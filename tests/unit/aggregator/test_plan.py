from dataclasses import replace

import pytest
from finsecure_aggregator.optimizer import Optimizer, OptimizerKind
from finsecure_aggregator.plan import Column
from finsecure_aggregator.records import MASKED_PHASES, RoundState
from finsecure_crypto.errors import InvalidArgumentError
from finsecure_crypto.federation import Masking, Tensor
from finsecure_crypto.secagg.parameters import Profile, SparseGraph


def test_a_good_plan_passes(plan):
    plan.check()


BAD = {
    "COHORT_RANGE": {"maximum_cohort": 2},
    "COMPLETE_GRAPH_TOO_LARGE": {"maximum_cohort": 2001},
    "LANE_OVERFLOW": {
        "maximum_cohort": 2**18 + 1,
        "protection": Masking(Profile.ACTIVE, SparseGraph(0.0, 0.0)),
    },
    "FEATURE_BOUNDS": {"columns": (Column("a", (1.0, 1.0)),)},
    "DUPLICATE_COLUMN": {"columns": (Column("a", None), Column("a", (0.0, 1.0)))},
    "LABEL_IS_FEATURE": {"columns": (Column("status", None),)},
    "NO_NUMERIC_FEATURES": {"standardise": True, "numeric_features": 0},
    "DUPLICATE_TENSOR": {"tensors": (Tensor("a", (1,)), Tensor("a", (2,)))},
    "TENSOR_NAME_RESERVED": {"tensors": (Tensor("standardise.mean", (1,)),)},
    "MODEL_TOO_LARGE": {"tensors": (Tensor("a", (2**32, 2)),)},
    "INTERVAL_RANGE": {"interval_ns": -1},
    "DEADLINE_RANGE": {"deadlines_ns": dict.fromkeys(MASKED_PHASES, 10)},
    "OPTIMIZER_PARAMETERS": {"optimizer": Optimizer(OptimizerKind.ADAM, 1, 0.9, 0.99, 0.0)},
    "SPARSE_GRAPH_INFEASIBLE": {
        "protection": Masking(Profile.ACTIVE, SparseGraph(0.33, 0.4)),
        "maximum_cohort": 1000,
    },
}


def test_bounds_whose_distance_is_no_number_are_refused(plan):
    with pytest.raises(InvalidArgumentError, match="FEATURE_BOUNDS"):
        replace(plan, columns=(Column("a", (-1.7e308, 1.7e308)),)).check()


@pytest.mark.parametrize("code", BAD)
def test_each_rule_has_its_own_code(change, code):
    with pytest.raises(InvalidArgumentError) as failure:
        change(**BAD[code]).check()
    assert failure.value.code == code


def test_momentum_and_adam_need_their_parameters(change):
    for optimizer in (
        Optimizer(OptimizerKind.MOMENTUM, 1, 0.0),
        Optimizer(OptimizerKind.ADAM, 1, 0.9, 0.0, 0.1),
    ):
        with pytest.raises(InvalidArgumentError) as failure:
            change(optimizer=optimizer).check()
        assert failure.value.code == "OPTIMIZER_PARAMETERS"


def test_each_phase_has_a_deadline_in_range(plan):
    for phase in MASKED_PHASES:
        for bad in (0, 8 * 86400 * 10**9):
            with pytest.raises(InvalidArgumentError) as failure:
                replace(plan, deadlines_ns={**plan.deadlines_ns, phase: bad}).check()
            assert failure.value.code == "DEADLINE_RANGE"
            assert phase.value in failure.value.message
    assert RoundState.UNMASKING not in plan.deadlines_ns


def test_sparse_graphs_that_hold_are_accepted(change):
    curious = Masking(Profile.SEMI_HONEST, SparseGraph(0.05, 0.33))
    change(protection=curious, maximum_cohort=1000).check()
    change(protection=Masking(Profile.ACTIVE, SparseGraph(0.05, 0.2)), maximum_cohort=5).check()
