"""sim.registry: families by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from sim import registry


@pytest.fixture
def points(monkeypatch):
    """Pretend that installed packages register these entry points."""
    registry._points.cache_clear()
    registry.get.cache_clear()

    def pretend(*found: tuple[str, str]) -> None:
        made = [EntryPoint(name, value, registry.GROUP) for name, value in found]
        monkeypatch.setattr(registry, "entry_points", lambda group: made)

    yield pretend
    registry._points.cache_clear()
    registry.get.cache_clear()


def test_the_projects_own_families_are_there():
    assert {"arm", "cartpole"} <= set(registry.names())
    assert registry.get("cartpole").name == "cartpole"


def test_a_name_that_does_not_exist_is_answered_by_those_that_do():
    with pytest.raises(LookupError, match=r"no task family 'amr' \(there are: .*arm, cartpole.*\)"):
        registry.get("amr")


def test_another_packages_family_joins_by_an_entry_point(points):
    points(("mine", "sim.families.cartpole:Cartpole"))
    assert registry.names() == ["mine"]
    assert registry.get("mine").name == "cartpole"


def test_two_packages_may_not_take_one_name(points):
    points(("mine", "a.family:Mine"), ("mine", "b.family:Mine"), ("c", "sim.families.arm:Arm"))
    with pytest.raises(
        ValueError, match=r"'mine' is registered twice: by 'a.family:Mine' and by 'b"
    ):
        registry.get("mine")
    assert registry.names() == ["c", "mine"]
    assert registry.get("c").name == "arm"


def test_an_entry_point_that_leads_nowhere_is_named(points):
    points(
        ("a", "no_such_package:A"), ("b", "sim.families.arm:Leg"), ("c", "sim.family:MujocoFamily")
    )
    with pytest.raises(
        LookupError, match="'a', 'no_such_package:A', cannot be imported: No module"
    ):
        registry.get("a")
    with pytest.raises(LookupError, match="that module has no 'Leg'; mend the entry point"):
        registry.get("b")
    with pytest.raises(LookupError, match="Can't instantiate abstract class MujocoFamily"):
        registry.get("c")


def test_one_family_seen_twice_is_no_duplicate(points):
    # An editable install can list its entry points twice.
    points(("mine", "a.family:Mine"), ("mine", "a.family:Mine"))
    assert registry.names() == ["mine"]
