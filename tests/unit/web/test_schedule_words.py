"""Schedules in words."""

from __future__ import annotations

import pytest

from opskit.web.schedule_words import schedule_words


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("30 2 * * *", "every day at 02:30 UTC"),
        ("@daily", "every day at 00:00 UTC"),
        ("@hourly", "every hour"),
        ("@weekly", "every Sunday at 00:00 UTC"),
        ("@monthly", "on day 1 of every month at 00:00 UTC"),
        ("@yearly", "on day 1 of January at 00:00 UTC"),
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("15 * * * *", "every hour at :15"),
        ("0,30 * * * *", "every hour at :00 and :30"),
        ("0 */2 * * *", "every 2 hours UTC"),
        ("30 */6 * * *", "every 6 hours at :30 UTC"),
        ("0 6,12,18 * * *", "every day at 06:00, 12:00 and 18:00 UTC"),
        ("0 9-17 * * 1-5", "every hour from 09:00 to 17:00, Monday to Friday UTC"),
        ("*/15 6-20 * * 1-5", "every 15 minutes from 06:00 to 20:59, Monday to Friday UTC"),
        ("*/10 3 * * *", "every 10 minutes from 03:00 to 03:59 UTC"),
        ("0 8 * * mon-fri", "Monday to Friday at 08:00 UTC"),
        ("0 8 * * 1,3", "every Monday and Wednesday at 08:00 UTC"),
        ("0 8 * * 0,6", "every Saturday and Sunday at 08:00 UTC"),
        ("0 8 * * 7", "every Sunday at 08:00 UTC"),
        ("15 1 * * MON", "every Monday at 01:15 UTC"),
        ("0 5 1,15 * *", "on days 1 and 15 of every month at 05:00 UTC"),
        ("0 5 L * *", "on the last day of every month at 05:00 UTC"),
        ("0 5 1 */3 *", "on day 1 of every third month at 05:00 UTC"),
        ("0 5 24 dec *", "on day 24 of December at 05:00 UTC"),
        ("0 5 * 6,7 *", "every day in June and July at 05:00 UTC"),
        ("@once", "once"),
        ("None", "only when triggered"),
    ],
)
def test_a_common_schedule_has_words(expression: str, words: str) -> None:
    assert schedule_words(expression) == words


@pytest.mark.parametrize(
    "expression",
    [
        "0 5 13 * 5",  # the 13th or a Friday, whichever comes
        "*/7 * * * *",  # not every 7 minutes: it begins anew with each hour
        "0 */5 * * *",
        "0 8 * * 1#2",
        "0 5 * 1-3 1",
        "1,2,3,4,5,6 * * * *",
        "0 5 31-33 * *",
        "60 25 * * *",
        "0 0 0 * * *",
        "words of a timetable",
    ],
)
def test_what_has_no_short_and_true_words_stays_as_it_is(expression: str) -> None:
    assert schedule_words(expression, "UTC") == f"{expression} (UTC)"


def test_the_zone_is_named_where_a_time_of_the_day_is() -> None:
    assert schedule_words("30 2 * * *", "Europe/Berlin") == "every day at 02:30 Europe/Berlin"
    assert schedule_words("*/5 * * * *", "Europe/Berlin") == "every 5 minutes"


def test_a_timetable_s_own_words_stand_for_what_is_no_cron_expression() -> None:
    assert schedule_words("1 day, 0:00:00", "UTC", "every 1 day") == "every 1 day"
    assert schedule_words("Asset", "UTC", "when orders has new data") == "when orders has new data"
    assert schedule_words("None", "UTC", "never; only when triggered") == "never; only when triggered"
    assert schedule_words("0 8 * * 1,3", "UTC", "cron 0 8 * * 1,3 (UTC)") == "every Monday and Wednesday at 08:00 UTC"
