import numpy as np
import pytest
from finsecure_aggregator.optimizer import Optimizer, OptimizerKind


def test_average_adds_the_update_times_the_rate():
    optimizer = Optimizer(OptimizerKind.AVERAGE, 0.5)
    moved, state = optimizer.step(np.array([1.0, 2.0]), np.array([4.0, -2.0]), {})
    assert moved.tolist() == [3.0, 1.0]
    assert state == {}


def test_momentum_by_hand():
    optimizer = Optimizer(OptimizerKind.MOMENTUM, 1.0, beta1=0.5)
    x, state = np.array([0.0]), optimizer.initial_state(1)
    x, state = optimizer.step(x, np.array([1.0]), state)  # m = 1
    assert x.tolist() == [1.0]
    x, state = optimizer.step(x, np.array([1.0]), state)  # m = 1.5
    assert x.tolist() == [2.5]
    x, state = optimizer.step(x, np.array([0.0]), state)  # m = .75
    assert x.tolist() == [3.25]


def test_adam_by_hand():
    optimizer = Optimizer(OptimizerKind.ADAM, 0.1, beta1=0.5, beta2=0.75, tau=1.0)
    x, state = np.array([1.0]), optimizer.initial_state(1)
    assert state["v"].tolist() == [1.0]  # τ²
    x, state = optimizer.step(x, np.array([2.0]), state)
    # m = .5·0 + .5·2 = 1; v = .75·1 + .25·4 = 1.75; x = 1 + .1·1/(√1.75 + 1)
    assert state["m"].tolist() == [1.0]
    assert state["v"].tolist() == [1.75]
    assert x[0] == pytest.approx(1 + 0.1 / (1.75**0.5 + 1), rel=1e-15)
    x, state = optimizer.step(x, np.array([-1.0]), state)
    # m = .5·1 + .5·(-1) = 0; v = .75·1.75 + .25·1
    assert state["m"].tolist() == [0.0]
    assert state["v"].tolist() == [0.75 * 1.75 + 0.25]


@pytest.mark.parametrize("kind", list(OptimizerKind))
def test_against_a_scalar_reference_over_many_steps(kind):
    rng = np.random.default_rng(1)
    optimizer = Optimizer(kind, 0.3, 0.9, 0.99, 0.01)
    x, state = rng.normal(size=5), optimizer.initial_state(5)
    slow = [(float(value), 0.0, 0.01**2) for value in x]
    for _ in range(50):
        update = rng.normal(size=5)
        before = {name: array.copy() for name, array in state.items()}
        old = state
        x, state = optimizer.step(x, update, state)
        for name, array in before.items():
            np.testing.assert_array_equal(old[name], array)  # the old state is left alone
        slow = [scalar_step(kind, *at, float(d)) for at, d in zip(slow, update, strict=True)]
    np.testing.assert_allclose(x, [at[0] for at in slow], rtol=1e-12)


def scalar_step(kind, x, m, v, d):
    match kind:
        case OptimizerKind.AVERAGE:
            return x + 0.3 * d, m, v
        case OptimizerKind.MOMENTUM:
            m = 0.9 * m + d
            return x + 0.3 * m, m, v
        case OptimizerKind.ADAM:
            m = 0.9 * m + (1 - 0.9) * d
            v = 0.99 * v + (1 - 0.99) * d * d
            return x + 0.3 * m / (v**0.5 + 0.01), m, v
