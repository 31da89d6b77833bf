# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages from a mirror, by our own code: one of this machine's loopback, with a repository of a few packages."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.repository import BUSYBOX, KERNEL, Handler, Repository, module
from tools import fetch_linux
from tools.linux import debian, mirror, modules, pieces, release
from tools.linux.deb import BadPackage
from tools.linux.plain import Plain

needs_gpgv = pytest.mark.skipif(shutil.which("gpgv") is None, reason="no gpgv here: it checks signatures")

# A key that signed nothing but the two texts below, and was thrown away. Both were signed in January 2024.
KEY = base64.b64decode(
    "mDMEZZIAgBYJKwYBBAHaRw8BAQdAleVgQnPUBsmGE9tyAKvP5TacoSiwPi+SRRWE77/09xm0DkEgdGVzdCBvZiBwdmh2iJAEExYIADgWIQTVIL"
    "bXpR5/vSk0YPkKlBelwPw3wQUCZZIAgAIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAKCRAKlBelwPw3wTgKAP0ckKjD4/qwliHB9tgfBkUU"
    "21rIqL+j+OZifeS64vMUZwD/YcRBaebKGd3104lG1NvbEDo4aje2pdm63t/2W7ThfgY="
)
TEXT = """\
Suite: stable
Codename: trixie
Valid-Until: Mon, 01 Jan 2024 01:00:00 UTC
SHA256:
 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 5 main/binary-amd64/Packages.xz
- dashed
"""
SIGNED = f"""\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

{TEXT.replace("- dashed", "- - dashed")}-----BEGIN PGP SIGNATURE-----

iHQEARYIAB0WIQTVILbXpR5/vSk0YPkKlBelwPw3wQUCZZIAgAAKCRAKlBelwPw3
wWc7APYjzPR6HxCaCazPjzak67Ekq54ZrGa+LncWuyBmLVZLAP41xnRIbnrSkSAN
XTLM6R/5oxxoS9lxlCN6hFJ8HmMbAg==
=ECuZ
-----END PGP SIGNATURE-----
"""
APART = """\
-----BEGIN PGP SIGNATURE-----

iHUEABYIAB0WIQTVILbXpR5/vSk0YPkKlBelwPw3wQUCZZIAgAAKCRAKlBelwPw3
wd4PAP9xhOsXwZBuEHxzLYdYWpmRaR1MCpI+nIoQSLzo9vbcbAEAnyP6Sx67PeIW
KWpFT8StxSLRe8ccDlE//iyqlrJSzAU=
=qQcQ
-----END PGP SIGNATURE-----
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PVHV_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "linux"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A mirror, where there is neither apt nor a key of Debian's."""
    monkeypatch.setattr(debian, "is_here", lambda: False)
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "no-keys.gpg")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(mirror, "PAUSE_S", 0.0)
    made = Repository(tmp_path / "mirror", debian.RELEASE)
    monkeypatch.setenv("PVHV_MIRROR", made.url)
    yield made
    made.close()


def publish(repository: Repository, version: str = "1", newer: str = "", by_hash: bool = False) -> None:
    """A kernel, over a package that leads to it, and a busybox; of that perhaps a `newer` one for security."""
    kernel, files = f"linux-image-{version}", {f"boot/vmlinuz-{version}": KERNEL + version.encode()}
    files |= {f"lib/modules/{version}/{name}.ko": module(depends="") for name in modules.DISK}
    repository.publish(
        repository.package("linux-image-amd64", version, {}, Depends=f"{kernel} (= {version})"),
        repository.package(kernel, version, files),
        repository.package("busybox-static", "1:1", {"bin/busybox": BUSYBOX + b"1"}),
        by_hash=by_hash,
    )
    busybox = ("busybox-static", newer, {"bin/busybox": BUSYBOX + newer.encode()}, "debian-security")
    repository.publish(*([repository.package(*busybox)] if newer else []), part="debian-security")


def test_a_linux_is_fetched(repository: Repository, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(repository, newer="1:1.1")
    assert fetch_linux.main([]) == 0
    said = capsys.readouterr().err
    assert "signature of bookworm is not checked, for there is no " in said and "this machine provides" in said
    assert (place / "debian-vmlinuz").read_bytes() == KERNEL + b"1"
    assert BUSYBOX + b"1:1.1" in (place / "debian-initramfs").read_bytes()
    assert '"source": "busybox-static_1%3a1.1_amd64.deb"' in (place / "debian-initramfs.json").read_text()
    assert not list(place.glob(".fetch-*"))
    repository.asked.clear()
    assert fetch_linux.main([]) == 0 and "is up to date" in capsys.readouterr().err
    assert [Path(path).name for path in repository.asked] == ["InRelease"] * 2  # lists and files are there
    publish(repository, "2")
    assert fetch_linux.main([]) == 0 and (place / "debian-vmlinuz").read_bytes() == KERNEL + b"2"


def test_a_mirror_is_named(
    repository: Repository, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then apt is not asked, even if it is there. A suite has its own list; and files go by their check sums."""
    publish(repository, by_hash=True)
    monkeypatch.setattr(debian, "is_here", lambda: True)
    monkeypatch.setattr(debian.Apt, "ask", lambda *_words: pytest.fail("apt was asked"))
    monkeypatch.setenv("PVHV_MIRROR", "nonsense")
    assert fetch_linux.main([f"--mirror={repository.url}/"]) == 0
    assert fetch_linux.main([]) == 1 and "'nonsense' is no mirror's address" in capsys.readouterr().err
    (repository.root / "debian" / "dists" / "unstable").mkdir()
    repository.publish(repository.package("linux-image-9", "9", {"boot/vmlinuz-9": KERNEL + b"9"}), suite="unstable")
    arguments = [f"--mirror={repository.url}", "--suite=unstable", "--package=linux-image-9", "--name=next"]
    assert fetch_linux.main(arguments) == 0 and "asking " in capsys.readouterr().err
    assert (place / "next-vmlinuz").read_bytes() == KERNEL + b"9"


@pytest.mark.parametrize("text", ["deb.debian.org", "file:///x", "ftp://x/debian", "https://", "http://x/\udcff", ""])
def test_addresses_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        fetch_linux.main([f"--mirror={text}"])
    assert "is no mirror: say one such as https://" in capsys.readouterr().err


def test_a_set_of_packages(repository: Repository, tmp_path: Path) -> None:
    repository.publish(
        repository.package("tool", "1", {}, Depends="lib (>= 2) | other"), repository.package("lib", "1", {}),
        repository.package("other", "1", {}), repository.package("wants", "1", {}, Depends="gone"),
    )  # fmt: skip
    repository.publish(repository.package("lib", "2:3", {"x": b"y"}, "debian-security"), part="debian-security")
    said: list[str] = []
    plain = Plain(tmp_path / "packages", repository.url, debian.RELEASE, said.append)
    paths = plain.with_all_they_need("tool")
    assert [path.name for path in paths] == ["lib_2%3a3_amd64.deb", "tool_1_amd64.deb"]
    assert "fetching 2 packages (0 MiB)" in said
    paths[0].write_bytes(bytes(paths[0].stat().st_size))  # as a disk leaves it that was full
    repository.asked.clear()
    assert plain.with_all_they_need("tool") == paths and paths[0].read_bytes().startswith(b"!<arch>")
    assert repository.asked == ["/debian-security/pool/lib_2.3.deb"]
    with pytest.raises(BadPackage, match=r"bookworm: wants .* needs gone, but there is none"):
        plain.with_all_they_need("wants")
    with pytest.raises(BadPackage, match="there is no package nobody in bookworm or bookworm-security"):
        plain.find("nobody")


def test_what_is_not_what_was_listed(
    repository: Repository, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mirror that lies, or is being changed. Nothing of that is kept."""
    publish(repository)
    lists = repository.root / "debian" / "dists" / debian.RELEASE
    for file in (repository.root / "debian" / "pool" / "linux-image-1_1.deb", lists / "main/binary-amd64/Packages.xz"):
        whole = file.read_bytes()
        changed = whole[:-1] + b"?"
        for wrong, why in ((changed, "its check sum is another"), (whole + b"?", "more than "), (whole[:50], " 50 ")):
            file.write_bytes(wrong)
            shutil.rmtree(place / "packages", ignore_errors=True)  # the lists of the time before
            assert fetch_linux.main([]) == 1
            said = capsys.readouterr().err
            assert f"{file.name} is not what was listed: it" in said and why in said
            assert all("Packages" in path.name for path in place.rglob("*") if path.is_file())
        file.unlink()
        shutil.rmtree(place / "packages")
        assert fetch_linux.main([]) == 1 and f"{file.name} is not there" in capsys.readouterr().err
        file.write_bytes(whole)
    whole = (lists / "InRelease").read_bytes()
    for wrong, why in (
        (whole.replace(b"bookworm", b"trixie"), "is not of that suite"), (b"<html>", "is not of that suite"),
        (whole.replace(b"Packages.xz", b"Packages.gz"), "bookworm lists no main/binary-amd64/Packages.xz"),
        (bytes(release.MOST + 1), "larger than such a file can be"),
    ):  # fmt: skip
        (lists / "InRelease").write_bytes(wrong)
        assert fetch_linux.main([]) == 1 and why in capsys.readouterr().err
    (lists / "InRelease").rename(lists / "Release")  # as older archives have it
    (lists / "Release").write_bytes(whole)
    assert fetch_linux.main([]) == 0


def test_security_updates_are_beside_the_mirror() -> None:
    assert mirror.security_of(mirror.DEFAULT) == [mirror.SECURITY]
    assert mirror.security_of("http://near.example/debian") == ["http://near.example/debian-security", mirror.SECURITY]
    assert mirror.security_of("http://x/archive/debian/2025")[0] == "http://x/archive/debian-security/2025"
    assert mirror.security_of("http://debian/other") == [mirror.SECURITY]


def test_and_else_where_debian_has_them(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository)
    (repository.root / "debian-security").rename(repository.root / "elsewhere")
    monkeypatch.setattr(mirror, "SECURITY", repository.url.replace("/debian", "/elsewhere"))
    said: list[str] = []
    Plain(tmp_path, repository.url, debian.RELEASE, said.append).update()
    assert any("/debian-security has no bookworm-security: " in line for line in said)


def test_a_server_that_cannot_now(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again, and what it says in the end is said."""
    publish(repository)
    fails = 2
    serve = Handler.do_GET

    def sometimes(self: object) -> None:
        nonlocal fails
        fails -= 1
        if fails >= 0:
            Handler.send_error(self, 503)  # type: ignore[arg-type]
        else:
            serve(self)  # type: ignore[arg-type]

    monkeypatch.setattr(Handler, "do_GET", sometimes)
    assert mirror.read(f"{repository.url}/dists/{debian.RELEASE}/InRelease", 1 << 20)[0]
    fails = 9
    plain = Plain(tmp_path, repository.url, debian.RELEASE, lambda _text: None)
    for _ in range(2):
        with pytest.raises(BadPackage, match="InRelease cannot be had: 503 Service Unavailable"):
            plain.find("busybox-static")
    assert fails == 9 - mirror.TRIES  # once


@needs_gpgv
class TestSignatures:
    """By gpgv itself, with a key of this test's."""

    @pytest.fixture(autouse=True)
    def keys(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(debian, "KEYRING", tmp_path / "keys.gpg")
        debian.KEYRING.write_bytes(KEY)

    def test_good(self) -> None:
        assert release.checked(SIGNED.encode(), None, "x") == TEXT == release.message(SIGNED.encode())
        assert release.checked(TEXT.encode(), APART.encode(), "x") == TEXT

    def test_what_stands_around_it_is_not_read(self) -> None:
        with_more = f"{SIGNED}\nSuite: other\n".encode()
        assert release.checked(with_more, None, "x") == TEXT == release.message(with_more)

    def test_wrong(self) -> None:
        for data, apart in ((SIGNED, None), (TEXT, APART)):
            changed = data.replace("2cf24d", "2cf24e").encode()
            with pytest.raises(BadPackage, match="x is not what Debian signed: its signature is wrong"):
                release.checked(changed, apart.encode() if apart else None, "x")

    @pytest.mark.parametrize(
        ("data", "apart"), [(TEXT, None), ("", None), (TEXT, ""), (TEXT, "text"), (SIGNED[:-90], None)]
    )
    def test_none(self, data: str, apart: str | None) -> None:
        with pytest.raises(BadPackage, match="is signed by none of the keys in"):
            release.checked(data.encode(), apart.encode() if apart is not None else None, "x")

    def test_of_somebody_else(self) -> None:
        debian.KEYRING.write_bytes(b"")
        with pytest.raises(BadPackage, match="is signed by none of the keys in"):
            release.checked(SIGNED.encode(), None, "x")

    def test_a_mirror_that_signs_nothing(
        self, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        publish(repository)
        monkeypatch.setattr(debian, "KEYRING", tmp_path / "keys.gpg")
        with pytest.raises(BadPackage, match="InRelease is signed by none of the keys"):
            Plain(tmp_path, repository.url, debian.RELEASE, pieces.say).update()

    def test_a_suite_is_fetched(self, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """It has a signature that is right; and it should have been renewed long ago, which is said."""
        monkeypatch.setattr(debian, "KEYRING", tmp_path / "keys.gpg")
        suite = repository.root / "debian" / "dists" / "stable"
        suite.mkdir(parents=True)
        said: list[str] = []
        for files in ({"InRelease": SIGNED}, {"Release": TEXT, "Release.gpg": APART}):
            for name, text in files.items():
                (suite / name).write_text(text)
            found = release.fetch(repository.url, "stable", said.append)
            assert found.listed("main/binary-amd64/Packages.xz").size == 5
            (suite / "InRelease").unlink(missing_ok=True)
        assert len(said) == 2 and "stable was valid until Mon, 01 Jan 2024 01:00:00 UTC: the mirror has old" in said[1]


def test_without_keys_it_has_to_be_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where an https mirror sends one on to one that is not."""
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "no-keys.gpg")
    came_from = "https://mirror.example/debian/dists/stable/InRelease"
    monkeypatch.setattr(mirror, "read", lambda _url, _most: (SIGNED.encode(), came_from))
    said: list[str] = []
    assert release.fetch("https://mirror.example/debian", "stable", said.append).fields["Codename"] == "trixie"
    assert "is not checked" in said[0] and "only TLS protects what is fetched" in said[0]
    came_from = "http://mirror.example/debian/dists/stable/InRelease"
    with pytest.raises(BadPackage, match=r"is not checked.*is not protected by TLS: say an https mirror"):
        release.fetch("https://mirror.example/debian", "stable", said.append)
