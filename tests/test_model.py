"""The rule as SPIN sees it; `make model` checks larger sizes."""

import pytest

from tests.model.spin import MUTANTS, Case, check


@pytest.mark.parametrize("model", ["ledger.pml", "epochs.pml"])
def test_no_state_of_one_block_breaks_the_rule(model: str) -> None:
    """With one height, every state of one incarnation, and of two epochs, keeps every promise."""
    found = check(Case("one block", model, {"HEIGHTS": 1}))
    assert found.complete
    assert not found.violated
    assert found.states > 500


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_broken_rule_is_caught(mutant: Case) -> None:
    """Each way to break the rule breaks a promise, and the model finds it."""
    assert check(mutant).violated
