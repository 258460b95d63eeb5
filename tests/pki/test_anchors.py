from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from asn1crypto import pem
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from pyhanko_certvalidator.authority import AuthorityWithCert, NamedKeyAuthority

from tokensign.errors import FileError, MalformedError, UsageError
from tokensign.keys import Password
from tokensign.pki.anchors import AnchorStore, load_anchors, may_issue, system_anchors

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Forged, Toolbox


def test_anchors_come_from_pem_der_and_folders_once_each(toolbox: Toolbox, tmp_path: Path) -> None:
    one, two, three = (toolbox.authority(name).certificate for name in ("One", "Two", "Three"))
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.pem").write_text(one.pem() + two.pem())
    (folder / "b.txt").write_text("no certificate")
    (tmp_path / "three.der").write_bytes(three.der)
    (tmp_path / "one.pem").write_text(one.pem())
    assert load_anchors([folder, tmp_path / "three.der", tmp_path / "one.pem"]) == (one, two, three)


def pkcs12(*certificates: Forged, own: Forged | None = None, password: bytes | None = b"secret") -> bytes:
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    others = [entry.loaded for entry in certificates]
    return serialize_key_and_certificates(
        b"store", own.key if own else None, own.loaded if own else None, others, protection
    )


def test_the_authorities_of_a_pkcs12_file_are_anchors_and_its_owner_is_none(
    toolbox: Toolbox, tmp_path: Path
) -> None:
    root, other = toolbox.authority("Root"), toolbox.authority("Other", number=2)
    alice = toolbox.forge("Alice", issuer=root)
    file = tmp_path / "store.p12"
    file.write_bytes(pkcs12(root, other, own=alice))
    found = load_anchors([file], Password(b"secret"))
    assert set(found) == {root.certificate, other.certificate}


def test_a_pkcs12_file_without_password_is_read_without_one(toolbox: Toolbox, tmp_path: Path) -> None:
    root = toolbox.authority()
    (tmp_path / "store.p12").write_bytes(pkcs12(root, password=None))
    assert load_anchors([tmp_path / "store.p12"]) == (root.certificate,)


@pytest.mark.parametrize("password", [None, Password(b"another one")])
def test_a_pkcs12_file_with_another_password_is_refused_with_what_to_do(
    toolbox: Toolbox, tmp_path: Path, password: Password | None
) -> None:
    (tmp_path / "store.p12").write_bytes(pkcs12(toolbox.authority()))
    with pytest.raises(MalformedError, match=r"store\.p12: the PKCS#12 file cannot be opened") as refusal:
        load_anchors([tmp_path / "store.p12"], password)
    assert "--trust-password-source" in (refusal.value.hint or "")


def test_a_pkcs12_file_without_an_authority_is_refused(toolbox: Toolbox, tmp_path: Path) -> None:
    (tmp_path / "store.p12").write_bytes(pkcs12(own=toolbox.forge("Alice")))
    with pytest.raises(MalformedError, match="no CA certificate in the PKCS#12 file"):
        load_anchors([tmp_path / "store.p12"], Password(b"secret"))


def test_the_system_s_anchors_are_where_openssl_looks_for_them(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = toolbox.authority("One").certificate, toolbox.authority("Two").certificate
    broken = pem.armor("CERTIFICATE", b"\x30\x03\x02\x01\x01").decode()
    (tmp_path / "bundle.pem").write_text(one.pem() + broken + one.pem())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "two.pem").write_text(two.pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "folder"))
    assert system_anchors() == (one, two)


def test_a_system_without_anchors_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    (tmp_path / "empty").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="no trust anchors"):
        system_anchors()


def test_a_named_file_that_is_no_certificate_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(MalformedError, match=r"bad\.pem"):
        load_anchors([tmp_path / "bad.pem"])


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="missing"):
        load_anchors([tmp_path / "missing"])


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)
    with pytest.raises(FileError, match="Permission denied"):
        load_anchors([tmp_path])


def test_no_anchor_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no trust anchor"):
        load_anchors([tmp_path])
    with pytest.raises(UsageError, match="no trust anchor"):
        load_anchors([])


def test_only_authorities_may_issue(toolbox: Toolbox) -> None:
    assert may_issue(toolbox.authority().certificate, legacy=False)
    assert may_issue(toolbox.forge(ca=True).certificate, legacy=False)
    assert not may_issue(toolbox.forge(ca=False).certificate, legacy=True)
    assert not may_issue(toolbox.forge().certificate, legacy=True)
    assert not may_issue(toolbox.forge(ca=True, usage=["digital_signature"]).certificate, legacy=True)


def test_a_version_1_root_may_issue_with_legacy_only(tmp_path: Path) -> None:
    request = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Old Root"]
    subprocess.run([*request, "-keyout", "key", "-out", "csr"], cwd=tmp_path, check=True, capture_output=True)
    convert = ["openssl", "x509", "-req", "-in", "csr", "-signkey", "key", "-out", "root.pem"]
    subprocess.run(convert, cwd=tmp_path, check=True, capture_output=True)
    (root,) = load_anchors([tmp_path / "root.pem"])
    assert not may_issue(root, legacy=False)
    assert may_issue(root, legacy=True)


def test_an_anchor_whose_limits_cannot_be_read_vouches_for_nobody(toolbox: Toolbox) -> None:
    odd = x509.NameConstraints([x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")], None)
    root, odd_root = toolbox.authority(), toolbox.authority("Odd", extra=[(odd, True)])
    store = AnchorStore([odd_root.certificate, root.certificate], maximum_path_length=None, legacy=False)
    assert store.certificates == [root.certificate.asn1]


def test_an_anchor_is_known_by_its_bytes(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    again = toolbox.authority()  # the same name and key
    store = AnchorStore([root.certificate], maximum_path_length=None, legacy=False)
    assert store.is_root(root.certificate.asn1)
    assert store.is_root(type(root.certificate)(root.certificate.der).asn1)
    assert not store.is_root(again.certificate.asn1)
    found = store.as_trust_anchor(AuthorityWithCert(root.certificate.asn1))
    assert found is not None
    asn1 = root.certificate.asn1
    assert store.as_trust_anchor(NamedKeyAuthority(asn1.subject, asn1.public_key)) is None
