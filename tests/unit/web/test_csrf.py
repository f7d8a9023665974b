"""The token of a session under a mask."""

from __future__ import annotations

from opskit.web.security.csrf import holds, masked

TOKEN = "0f" * 32


def test_a_page_never_holds_the_token_itself_nor_the_same_text_twice() -> None:
    pages = {masked(TOKEN) for _ in range(50)}
    assert len(pages) == 50
    for page in pages:
        assert TOKEN not in page and TOKEN.encode().hex() not in page
        assert holds(page, TOKEN)
    # No place of it says something about the token: with a pad each digit is as likely as another.
    assert all(len({page[place] for page in pages}) > 5 for place in range(3, len(TOKEN) * 4 + 3))


def test_a_program_may_send_the_token_as_it_is() -> None:
    assert holds(TOKEN, TOKEN)
    assert holds("key-signature", "key-signature") and holds(masked("key-signature"), "key-signature")


def test_what_is_not_the_token_is_refused() -> None:
    plain = ["", TOKEN[:-1], TOKEN[:-1] + "e", "\ud800"]
    made = ["m1.", "m1.00", "m1.zz", "m1.ü", "m1." + "00" * 64, "m1." + "0" * 257]
    other = [masked(TOKEN)[3:], masked(TOKEN)[:-2], masked("0e" * 32), masked(TOKEN)[:-1] + "g"]
    assert not [given for given in (*plain, *made, *other) if holds(given, TOKEN)]


def test_nobody_without_a_session_has_a_token() -> None:
    assert masked("") == ""
    assert not holds("m1.", "0")
