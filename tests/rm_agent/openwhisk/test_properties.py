from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_agent.openwhisk import ConfigurationError, OpenWhisk, Properties, base_url
from rm_agent.openwhisk.properties import format_wskprops, parse_wskprops

KEY = "uuid:0123456789"

keys = st.text(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), min_size=1)
values = st.text(st.characters(codec="ascii", categories=("L", "N", "P"), exclude_characters="'\"#"), max_size=80)


@pytest.mark.parametrize(
    ("apihost", "url"),
    [
        ("localhost", "http://localhost"),
        ("localhost:3233", "http://localhost:3233"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:3233", "http://[::1]:3233"),
        ("10.0.0.7:3233", "http://10.0.0.7:3233"),
        ("openwhisk.example.com", "https://openwhisk.example.com"),
        ("openwhisk.example.com:31001", "https://openwhisk.example.com:31001"),
        ("http://openwhisk.example.com/", "http://openwhisk.example.com"),
        ("https://localhost:443", "https://localhost:443"),
        ("  http://localhost:3233\n", "http://localhost:3233"),
    ],
)
def test_api_hosts_as_wsk_takes_them(apihost, url):
    assert base_url(apihost) == url


@pytest.mark.parametrize(
    "apihost", ["", "http://", "ftp://host", "host:port", "host/api/v1", "http://user:key@host", "a b", "host?x=1"]
)
def test_what_is_no_api_host_is_refused(apihost):
    with pytest.raises(ConfigurationError):
        base_url(apihost)


def test_credentials_in_an_api_host_are_not_repeated():
    with pytest.raises(ConfigurationError) as error:
        base_url("http://user:sesame@host")
    assert "sesame" not in str(error.value)


@given(st.text())
def test_any_text_is_a_host_or_a_clear_error(text):
    try:
        url = base_url(text)
    except ConfigurationError:
        return
    assert url.startswith(("http://", "https://")) and base_url(url) == url


@given(st.dictionaries(keys, values))
def test_wskprops_survive_a_round_trip(properties):
    assert parse_wskprops(format_wskprops(properties)) == properties


@given(st.text())
def test_any_file_is_read(text):
    assert all(key == key.strip().upper() and key for key in parse_wskprops(text))


def test_wskprops_with_comments_quotes_and_rubbish():
    text = """
    # the cluster
    APIHOST = "http://localhost:3233"   # mine
    AUTH='uuid:key#1'
    namespace=_ # own
    rubbish
    =nothing
    APIVERSION=v1
    """
    assert parse_wskprops(text) == {
        "APIHOST": "http://localhost:3233",
        "AUTH": "uuid:key#1",
        "NAMESPACE": "_",
        "APIVERSION": "v1",
    }


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path):
    file = tmp_path / "props"
    file.write_text(f"APIHOST=file:1\nAUTH={KEY}\nNAMESPACE=team\n")
    environ = {"WSK_CONFIG_FILE": str(file)}
    assert Properties.read(environ=environ) == Properties("file:1", KEY, "team", None)
    environ["OW_APIHOST"] = "environment:1"
    assert Properties.read(environ=environ).apihost == "environment:1"
    assert Properties.read("flag:1", environ=environ).apihost == "flag:1"
    assert Properties.read("flag:1", environ=environ).auth == KEY


def test_without_any_file_nothing_is_configured(tmp_path, monkeypatch):
    monkeypatch.setenv("WSK_CONFIG_FILE", str(tmp_path / "missing"))
    monkeypatch.delenv("OW_APIHOST", raising=False)
    monkeypatch.delenv("OW_AUTH", raising=False)
    assert Properties.read() == Properties()
    with pytest.raises(ConfigurationError, match="--apihost"):
        OpenWhisk.from_environment()
    with pytest.raises(ConfigurationError, match="--auth"):
        OpenWhisk.from_environment("localhost")


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="directory"):
        Properties.read(environ={"WSK_CONFIG_FILE": str(tmp_path)})


def test_the_key_is_never_shown():
    assert "0123" not in repr(Properties("host", KEY))
    assert "0123" not in repr(OpenWhisk("localhost", KEY)) + str(vars(Properties).keys())
    with pytest.raises(ConfigurationError) as error:
        OpenWhisk("localhost", "0123456789")
    assert "0123" not in str(error.value)
