"""The tests; `builders` has what several of them build on."""
