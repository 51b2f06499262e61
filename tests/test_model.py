"""The rule as SPIN sees it; `make model` checks larger sizes."""

import pytest

from tests.model.spin import MUTANTS, check


def test_no_state_of_one_block_breaks_the_rule() -> None:
    """With one height and one incarnation, every state that can be reached keeps every promise."""
    found = check(mutant=0, heights=1, incarnations=1)
    assert found.complete
    assert not found.violated
    assert found.states > 1000


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: MUTANTS[mutant])
def test_broken_rule_is_caught(mutant: int) -> None:
    """Each way to break the rule breaks a promise, and the model finds it."""
    assert check(mutant=mutant, heights=2, incarnations=1).violated
