"""reptile_agent.meta.epsilon: the outer step size over a run."""

from __future__ import annotations

import pytest

from reptile_agent.meta.epsilon import schedule


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0]),
        ("cosine", [1, 0.853553, 0.5, 0]),
    ],
)
def test_factor_at_the_start_a_quarter_half_and_the_end(kind, wanted):
    assert [schedule(kind, share) for share in (0, 0.25, 0.5, 1)] == pytest.approx(wanted)


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan")])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match="must be 0 to 1"):
        schedule("linear", share)
