from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from tokensign.errors import ConfigurationError
from tokensign.settings import (
    MailSettings,
    PolicySettings,
    RevocationSettings,
    Settings,
    StoreSettings,
    default_config_path,
    load_settings,
)


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_everything_is_read_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = 'module = "m.so"\ntoken = "acme"\npin-source = "file:pin"\ntrust = ["anchors", "/etc/ca.pem"]\n'
    assert load_settings(write(tmp_path, text)) == Settings(
        modules=(tmp_path / "m.so",),
        token="acme",
        pin_source=f"file:{tmp_path / 'pin'}",
        trust=(str(tmp_path / "anchors"), "/etc/ca.pem"),
    )


@pytest.mark.parametrize("source", ["prompt", "env:PIN", "fd:3", "keyring:tokensign", "credential:pin"])
def test_pin_sources_that_are_no_files_stay_as_they_are(tmp_path: Path, source: str) -> None:
    assert load_settings(write(tmp_path, f'pin-source = "{source}"')).pin_source == source


@pytest.mark.parametrize("name", ["pin-value", "PIN-VALUE"])
def test_a_pin_in_the_file_is_refused_and_not_repeated(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="does not belong in a configuration file") as refusal:
        load_settings(write(tmp_path, f'token = "pkcs11:token=acme?{name}=4711"'))
    assert "4711" not in str(refusal.value)


def test_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load_settings(write(tmp_path, 'trust = ["~/ca.pem"]\npin-source = "file:~/pin"'))
    assert settings.trust == (str(tmp_path / "ca.pem"),)
    assert settings.pin_source == f"file:{tmp_path / 'pin'}"


def test_protection_is_required_only_where_the_file_says_so(tmp_path: Path) -> None:
    assert not load_settings(write(tmp_path, "require-non-extractable = false")).require_non_extractable
    assert load_settings(write(tmp_path, "require-non-extractable = true")).require_non_extractable
    assert load_settings(write(tmp_path, "agent = true")).agent
    assert not load_settings(write(tmp_path, "")).agent


def test_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, "")) == Settings()


def test_default_file_need_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_config_path() == tmp_path / "tokensign" / "config.toml"
    assert load_settings() == Settings()


def test_default_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "tokensign").mkdir()
    write(tmp_path / "tokensign", 'token = "acme"')
    assert load_settings().token == "acme"


def test_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_settings(tmp_path / "config.toml")


def test_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)


@pytest.mark.parametrize("content", [b"token =", b"token = '\xff'", b"[token"])
def test_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match="is broken"):
        load_settings(tmp_path / "config.toml")


def test_unknown_setting_is_refused_and_the_known_ones_are_listed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'tokne' is not a setting") as caught:
        load_settings(write(tmp_path, 'tokne = "acme"'))
    assert caught.value.hint == (
        "settings are: module, token, pin-source, trust, stores, policy, revocation, "
        "require-non-extractable, agent, token-timeout, contacts, database, mail, gateway, service, remote"
    )


@pytest.mark.parametrize(
    "text",
    ["token = 1", 'trust = "ca.pem"', "trust = [1]", "module = true", 'require-non-extractable = "yes"'],
)
def test_setting_of_another_type_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="has the wrong type"):
        load_settings(write(tmp_path, text))


def test_stores_are_named_and_their_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = """
        trust = ["store:partners", "system", "./system"]
        [stores.partners]
        files = ["partners", "/etc/partner.p12"]
        password-source = "file:secret"
        [stores.own]
        files = ["own.pem"]
        """
    settings = load_settings(write(tmp_path, text))
    assert settings.trust == ("store:partners", "system", str(tmp_path / "system"))
    assert settings.stores == {
        "partners": StoreSettings(
            (tmp_path / "partners", Path("/etc/partner.p12")), f"file:{tmp_path / 'secret'}"
        ),
        "own": StoreSettings((tmp_path / "own.pem",)),
    }


def test_what_is_asked_of_certificate_policies_is_read(tmp_path: Path) -> None:
    text = '[policy]\ninitial = ["1.2.3"]\nexplicit = true\ninhibit-any = true\ninhibit-mapping = true\n'
    assert load_settings(write(tmp_path, text)).policy == PolicySettings(("1.2.3",), True, True, True)  # noqa: FBT003


def test_how_revocation_is_found_out_is_read(tmp_path: Path) -> None:
    text = '[revocation]\nmode = "require"\nfetch = false\nallow-private = ["10.0.0.0/8", "fd00::/8"]\n'
    networks = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    settings = load_settings(write(tmp_path, text)).revocation
    assert settings == RevocationSettings("require", fetch=False, allow_private=networks)
    assert load_settings(write(tmp_path, "")).revocation == RevocationSettings(None, None, ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stores = 1", "'stores' has the wrong type"),
        ("[stores]\npartners = 1", r"\[stores\.partners\]: a table is needed here"),
        ("[stores.partners]", r"\[stores\.partners\]: the store has no files"),
        ("[stores.partners]\nfile = []", r"\[stores\.partners\]: 'file' is not a setting"),
        ('[stores.partners]\nfiles = "ca.pem"', r"'files' has the wrong type"),
        ("[policy]\nexplicit = 1", r"\[policy\]: the setting 'explicit' has the wrong type"),
        ("[policy]\nanything = true", r"\[policy\]: 'anything' is not a setting"),
        ("[revocation]\nfetch = 1", r"\[revocation\]: the setting 'fetch' has the wrong type"),
        ('[revocation]\nmode = "on"', r"\[revocation\]: 'on' is not a mode"),
        ('[revocation]\nallow-private = ["10.0.0.1/8"]', r"\[revocation\]: 10\.0\.0\.1/8 has host bits set"),
        ('[revocation]\nallow-private = ["intranet"]', r"\[revocation\]: 'intranet' does not appear to be"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        load_settings(write(tmp_path, text))


@pytest.mark.parametrize(
    ("written", "place"),
    [("mine.sqlite", "{folder}/mine.sqlite"), ("sqlite:////srv/mail.sqlite", "sqlite:////srv/mail.sqlite")],
)
def test_the_contacts_are_a_file_beside_the_configuration_or_a_url(
    tmp_path: Path, written: str, place: str
) -> None:
    settings = load_settings(write(tmp_path, f'contacts = "{written}"'))
    assert settings.contacts == place.format(folder=tmp_path)


def test_mail_servers_are_read_and_the_gateway_is_left_to_its_own_reader(tmp_path: Path) -> None:
    text = """
[mail]
submission = "smtps://alice@mail.acme.example"
imap = "imaps://alice@mail.acme.example"
password-source = "file:password"
trust = ["mail-ca.pem"]

[gateway]
folder = "state"
"""
    settings = load_settings(write(tmp_path, text))
    assert settings.mail == MailSettings(
        submission="smtps://alice@mail.acme.example",
        imap="imaps://alice@mail.acme.example",
        password_source=f"file:{tmp_path / 'password'}",
        trust=(tmp_path / "mail-ca.pem",),
    )
    assert settings.gateway == {"folder": "state"}
    assert settings.folder == tmp_path
    with pytest.raises(ConfigurationError, match="'smtp' is not a setting"):
        load_settings(write(tmp_path, '[mail]\nsmtp = "x"'))


def test_remote_service_has_its_credentials_beside_the_file(tmp_path: Path) -> None:
    table = '[remote]\nurl = "https://signing.acme.example"\nkey = "alice.key"\ntoken-source = "file:token"\n'
    remote = load_settings(write(tmp_path, table)).remote
    assert remote.url == "https://signing.acme.example"
    assert (remote.key, remote.token_source) == (tmp_path / "alice.key", f"file:{tmp_path / 'token'}")
    assert (remote.certificate, remote.ca) == (None, None)
    with pytest.raises(ConfigurationError, match="the service has no url"):
        load_settings(write(tmp_path, '[remote]\nkey = "alice.key"\n'))
