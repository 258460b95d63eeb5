from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from pyhanko_certvalidator.authority import AuthorityWithCert, NamedKeyAuthority

from tokensign.errors import FileError, MalformedError, UsageError
from tokensign.pki.anchors import AnchorStore, load_anchors, may_issue

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Toolbox


def test_anchors_come_from_pem_der_and_folders_once_each(toolbox: Toolbox, tmp_path: Path) -> None:
    one, two, three = (toolbox.authority(name).certificate for name in ("One", "Two", "Three"))
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.pem").write_text(one.pem() + two.pem())
    (folder / "b.txt").write_text("no certificate")
    (tmp_path / "three.der").write_bytes(three.der)
    (tmp_path / "one.pem").write_text(one.pem())
    assert load_anchors([folder, tmp_path / "three.der", tmp_path / "one.pem"]) == (one, two, three)


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
