from __future__ import annotations

import pytest

from opskit.errors import UsageError
from opskit.system.ssh import HostAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("w1", HostAddress("w1")),
        ("airflow@w2.example.org:2222", HostAddress("w2.example.org", "airflow", 2222)),
        ("10.0.0.1", HostAddress("10.0.0.1")),
        ("[::1]:22", HostAddress("::1", "", 22)),
        ("u@fe80::1%eth0", HostAddress("fe80::1%eth0", "u")),
        ("ann@corp@bastion", HostAddress("bastion", "ann@corp")),
    ],
)
def test_a_host_is_user_name_and_port(text: str, address: HostAddress) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-oProxyCommand=id",
        "u@-x",
        "-l@host",
        "host:",
        "host:0",
        "host:99999",
        "host:22x",
        "a b",
        "@h",
        "[::1",
        "a;b",
    ],
)
def test_what_could_be_an_option_or_a_command_is_no_host(text: str) -> None:
    with pytest.raises(UsageError, match="is not a host"):
        parse_address(text)
