import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import load_gateway, load_peer
from gateway.errors import ConfigError
from gateway.toml import Table, is_name

WORD = re.compile("[a-z]+")


def table(text: str) -> Table:
    return Table.parse(text, "f")


# -- names


@pytest.mark.parametrize("text", ["a", "A-Z_0.9", "x" * 64, "-", "_"])
def test_what_is_a_name(text: str) -> None:
    """1 to 64 letters, digits, hyphens, underscores and dots."""
    assert is_name(text)


@pytest.mark.parametrize(
    "text", ["", "x" * 65, ".", "..", ".a", "a/b", "a b", "a\n", "+", "#", "é", "a\x00", "\x1b[31m"]
)
def test_fault_52_what_is_no_name(text: str) -> None:
    """Nothing that could leave a folder, a topic or a line."""
    assert not is_name(text)


# -- what is there


def test_every_kind_of_value_is_taken() -> None:
    """Texts, numbers, flags, bytes, lists and tables come as the program wants them."""
    read = table(
        'word = "ab"\nwhole = 0x10\npart = 2\nyes = true\nbytes = "7d 81A1"\nwords = ["a", "b"]\n'
        "wholes = [0, 65535]\n[one]\nkey = 1\n[[many]]\nkey = 2\n[[many]]\nkey = 3\n"
    )
    assert (read.text("word", WORD, "letters"), read.take("word", str)) == ("ab", "ab")
    assert (read.integer("whole", 0, 16), read.number("part", 0, 3)) == (16, 2.0)
    assert (read.flag("yes"), read.octets("bytes")) == (True, b"\x7d\x81\xa1")
    assert (read.strings("words"), read.strings("words", WORD)) == (("a", "b"), ("a", "b"))
    assert read.integers("wholes", 0, 65535) == (0, 65535)
    assert read.table("one").integer("key", 1, 1) == 1
    assert [entry.integer("key", 0, 9) for entry in read.tables("many")] == [2, 3]
    read.refuse_unknown()


def test_what_is_missing_has_its_default() -> None:
    """A flag is false, lists and bytes are empty; anything else is what its reader says."""
    read = table("")
    assert (read.flag("a"), read.octets("a"), read.strings("a"), read.integers("a", 0, 1)) == (False, b"", (), ())
    assert not any((read.take("a", str, None), read.text("a", WORD, "letters", None)))
    assert (read.integer("a", 0, 9, 3), read.number("a", 0, 9, 2.5), read.choice("a", ("x",), "x")) == (3, 2.5, "x")
    assert read.tables("a", least=0) == []
    read.table("b").refuse_unknown()


# -- what is wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('key = "aB"', "f: key is 'aB'; allowed: letters"),
        ('key = "ab\\n"', "f: key is 'ab\\n'; allowed: letters"),
        ("key = 1", "f: key is 1; allowed: a text"),
        ("", "f: key is missing; allowed: a text"),
    ],
)
def test_a_text_is_of_its_form_to_the_end(text: str, message: str) -> None:
    """A form holds for all of a text, a line feed at its end included."""
    with pytest.raises(ConfigError) as caught:
        table(text).text("key", WORD, "letters")
    assert str(caught.value) == message


@pytest.mark.parametrize("value", ['"7"', '"7g"', '"0x7d"', '"é"', '"\\u0660\\u0661"'])
def test_bytes_are_pairs_of_hexadecimal_digits(value: str) -> None:
    """A digit too few or another character is named."""
    with pytest.raises(ConfigError, match=r"^f: key is .*; allowed: bytes in hexadecimal, two digits each$"):
        table(f"key = {value}").octets("key")


@pytest.mark.parametrize("value", ["0", '"true"', "[]", "1.0"])
def test_a_flag_is_true_or_false(value: str) -> None:
    """Neither a number nor a text will do."""
    with pytest.raises(ConfigError, match=r"^f: key is .*; allowed: true or false$"):
        table(f"key = {value}").flag("key")


@pytest.mark.parametrize("value", ["[-1]", "[256]", "[true]", "[1.0]", '["1"]', "[[1]]"])
def test_whole_numbers_of_a_list_are_in_range(value: str) -> None:
    """Each one is a whole number and from low to high."""
    with pytest.raises(ConfigError, match=r"^f: key is \[.*\]; allowed: a list of whole numbers, 0 to 255$"):
        table(f"key = {value}").integers("key", 0, 255)


@pytest.mark.parametrize("value", ['["a", 1]', '["a", "B"]', '[["a"]]'])
def test_texts_of_a_list_are_of_their_form(value: str) -> None:
    """One that is not spoils the list."""
    with pytest.raises(ConfigError, match=r"^f: key is \[.*\]; allowed: a list of words$"):
        table(f"key = {value}").strings("key", WORD, "words")


@pytest.mark.parametrize("value", ["[]", "[1]", "[{}, 1]"])
def test_tables_are_tables_and_enough(value: str) -> None:
    """The message says how such tables are written, with the table that they are in."""
    with pytest.raises(ConfigError, match=r"^f: in\.key is \[.*\]; allowed: one or more \[\[in\.key\]\]$"):
        table(f"in = {{ key = {value} }}").table("in").tables("key")


def test_an_unknown_key_is_named_with_its_table_and_those_that_are_known() -> None:
    """However deep it stands, also in one of many tables."""
    read = table("[[many]]\n[many.in]\nkey = 1\n[[many]]\n[many.in]\nkey = 1\nkeys = 2\n")
    for entry in read.tables("many"):
        entry.table("in").integer("key", 0, 1)
    with pytest.raises(ConfigError, match=r"^f: many\[1\]\.in\.keys is unknown; allowed: key$"):
        read.refuse_unknown()


def test_a_table_of_which_nothing_is_known_says_so() -> None:
    """A table that may be there, but empty."""
    read = table("[one]\nkey = 1")
    read.table("one")
    with pytest.raises(ConfigError, match=r"^f: one\.key is unknown; allowed: no key here$"):
        read.refuse_unknown()


def test_a_long_value_is_shown_short() -> None:
    """A message stays readable whatever was pasted into the file."""
    with pytest.raises(ConfigError) as caught:
        load_peer(f'id = "{"x" * 10_000}"\nbroker = "b"\nroster = "r"', "f")
    assert len(str(caught.value)) < 200


def test_a_number_too_long_to_show_is_named_as_such() -> None:
    """Python refuses to write out so many digits: the message does without."""
    text = 'id = "a"\nchain = "a.1"\nbroker = "b"\nroster = "r"\n[block]\nleaves = 0x' + "f" * 5000
    with pytest.raises(ConfigError, match=r"f: block\.leaves is a number of thousands of digits; allowed: 1 to 4096"):
        load_gateway(text, "f")


@given(key=st.text(max_size=8))
def test_fault_52_an_error_is_one_printable_line(key: str) -> None:
    """Whatever a key is called, the error shows it without control characters, and names the file first."""
    escaped = "".join(f"\\U{ord(character):08x}" for character in key)
    with pytest.raises(ConfigError) as caught:
        table(f'"{escaped}" = 1').refuse_unknown()
    assert str(caught.value).startswith("f: ")
    assert str(caught.value).isprintable()
