"""The package.json in a tarball: the one that npm would write last, and an error for what readers may not agree on."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.npm import archive as module
from mirrorwitness.npm.tarball import TarballManifest, read_tarball
from tests.fakes.registry_build import filler, make_tarball
from tests.unit.npm.archives import END, archive, member, packed, pax

if TYPE_CHECKING:
    from pathlib import Path

JSON = b'{"name": "left"}'
FOUND = TarballManifest(JSON, 1, 1)


def refused(body: bytes) -> str:
    with pytest.raises(UpstreamProtocolError, match="tarball: ") as caught:
        read_tarball(body)
    return str(caught.value)


# ---- what npm sees


def test_what_npm_packs_is_found(tmp_path: Path) -> None:
    """From memory and from a file, with other files around it."""
    body = make_tarball({"index.js": b"x" * 3000, "package.json": JSON}, name="left", version="1.0.0")
    assert read_tarball(body) == TarballManifest(JSON, 1, 2)
    path = tmp_path / "left.tgz"
    path.write_bytes(body)
    assert read_tarball(path) == TarballManifest(JSON, 1, 2)


@pytest.mark.parametrize(
    "name",
    [
        b"package/package.json",
        b"left-1.0.0/package.json",
        b"/package.json",
        b"../package.json",
        b"package//package.json",
        b"package/./package.json",
    ],
)
def test_any_first_component_is_the_package(name: bytes) -> None:
    """Npm takes it away without a look."""
    assert read_tarball(archive(member(name, JSON))) == FOUND


@pytest.mark.parametrize(
    "name",
    [
        b"package.json",
        b"package/lib/package.json",
        b"package/lib/../package.json",
        b"package/../package.json",
        b"./package/package.json",
        b"package/package.jso",
        b"package/xpackage.json",
        b"/package/package.json",
    ],
)
def test_other_names_are_other_files(name: bytes) -> None:
    """Deeper down, outside, or not quite it."""
    assert read_tarball(archive(member(name, JSON))) == TarballManifest(None, 0, 1)


def test_no_package_json() -> None:
    """An archive without one says so; an empty one too."""
    assert read_tarball(archive(member(b"package/index.js", b"x"))) == TarballManifest(None, 0, 1)
    assert read_tarball(archive()) == TarballManifest(None, 0, 0)
    assert read_tarball(b"") == TarballManifest(None, 0, 0)


def test_attack_duplicate_package_json() -> None:
    """The last one is what npm leaves on the disk, and there being two is told."""
    body = archive(packed("good"), member(b"other/package.json", b'{"name": "evil"}'))
    assert read_tarball(body) == TarballManifest(b'{"name": "evil"}', 2, 2)


@pytest.mark.parametrize("name", [b"package/PACKAGE.json", b"package\\package.json", b"a\\b/Package.JSON"])
def test_attack_package_json_of_other_file_systems(name: bytes) -> None:
    """Which one a disk without capitals, or with backslashes, would have is not known; that there are two is."""
    assert read_tarball(archive(packed(), member(name, b"{}"))).count == 2


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6", b"Z"])
def test_attack_package_json_as_a_link_or_device(kind: bytes) -> None:
    """Npm never writes them, so they are not it."""
    body = archive(packed(), member(b"package/package.json", kind=kind))
    assert read_tarball(body) == TarballManifest(JSON, 1, 2)


@pytest.mark.parametrize("kind", [b"0", b"\0", b"7"])
def test_files_of_all_types(kind: bytes) -> None:
    """Old and contiguous files are files; with a slash at the end they are directories."""
    assert read_tarball(archive(member(b"package/package.json", JSON, kind=kind))) == FOUND


def test_a_gyp_file_is_told() -> None:
    """Npm builds it where there is no install script; only beside package.json."""
    assert read_tarball(archive(packed(), member(b"package/binding.gyp", b"{}"))).has_gyp
    assert not read_tarball(archive(packed(), member(b"package/deps/binding.gyp", b"{}"))).has_gyp


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_other_files(format_: int) -> None:
    """Every dialect's long names are read, and do not hide what follows."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=format_, compresslevel=1) as writer:
        for name, content in (("package/" + "deep/" * 25 + "x" * 60, b"z" * 700), ("package/package.json", JSON)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            writer.addfile(info, io.BytesIO(content))
    assert read_tarball(raw.getvalue()) == TarballManifest(JSON, 1, 2)


def test_names_of_extended_headers_count() -> None:
    """PAX, GNU and the ustar prefix name a file; an extended header is for one member."""
    assert read_tarball(archive(pax({"path": "package/package.json"}), member(b"x", JSON))) == FOUND
    assert read_tarball(archive(pax({"path": "p/package.json"}), member(b"x", JSON), member(b"y/z", b"2"))) == (
        TarballManifest(JSON, 1, 2)
    )
    long = member(b"././@LongLink", b"p/package.json\0", kind=b"L")
    assert read_tarball(archive(long, member(b"x", JSON))) == FOUND
    link = member(b"././@LongLink", b"target\0", kind=b"K")
    assert read_tarball(archive(link, member(b"p/x", kind=b"2"), packed())) == TarballManifest(JSON, 1, 2)
    assert read_tarball(archive(member(b"package.json", JSON, prefix=b"package"))) == FOUND
    assert read_tarball(archive(member(b"package.json", JSON, prefix=b"package", magic=b"ustar  \0"))).text is None


def test_comments_of_extended_headers_do_not_count() -> None:
    """Whatever else they say, of this member or of all."""
    git = pax({"comment": "0123456789"}, b"g")
    assert read_tarball(archive(git, pax({"mtime": "1.5", "SCHILY.xattr.x": "a\nb"}), packed())) == FOUND


def test_gzip_of_several_members_and_none() -> None:
    """Concatenated gzip is one stream; what lies behind it is nobody's; a plain archive is read as well."""
    whole = packed() + END
    assert read_tarball(gzip.compress(whole[:700]) + gzip.compress(whole[700:])) == FOUND
    assert read_tarball(gzip.compress(whole) + b"rubbish") == FOUND
    assert read_tarball(whole) == FOUND
    assert read_tarball(gzip.compress(packed())) == FOUND  # without the two empty blocks


def test_one_empty_block_is_not_the_end() -> None:
    """Npm goes on behind it, so what is hidden there is found; behind two nothing is."""
    evil = member(b"package/package.json", b"evil")
    assert read_tarball(archive(packed(), bytes(512), evil)).text == b"evil"
    assert read_tarball(archive(packed(), END, evil)) == FOUND
    assert read_tarball(archive(packed(), end=bytes(512))) == FOUND


# ---- what is refused


def test_attack_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """What unpacks to too much is given up on the way, however it is hidden."""
    zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = zeros.compress(packed()) + b"".join(zeros.compress(bytes(1 << 20)) for _ in range(40)) + zeros.flush()
    assert "unpack to more than" in refused(bomb)
    monkeypatch.setattr(module, "MAX_UNPACKED_BYTES", 2000)
    assert "unpack to more than" in refused(archive(packed(), member(b"package/x", filler("x", 3000))))


def test_attack_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many members, a package.json or an extended header beyond its limit; a claim is enough."""
    monkeypatch.setattr(module, "MAX_MEMBERS", 3)
    assert "more than 3 members" in refused(archive(*[member(b"package/x")] * 4))
    assert "package.json has 16777217 bytes" in refused(archive(member(b"p/package.json", b"x", size=2**24 + 1)))
    assert "extended header of" in refused(archive(member(b"x", b"x", size=2**20 + 1, kind=b"x")))
    binary = b"\x80" + (2**80).to_bytes(11, "big")
    assert "middle of a member" in refused(archive(member(b"p/x", b"x", size=binary)))


def test_attack_cut() -> None:
    """Wherever it ends too early: an error, and never a result."""
    body = archive(packed(), member(b"package/index.js", filler("x", 2000)), pax({"a": "b"}), member(b"package/y"))
    for end in range(1, len(body)):
        assert refused(body[:end])
    plain = packed() + member(b"package/x", b"y" * 600)
    for end in (100, 520, 1100, 1700):
        assert "middle" in refused(gzip.compress(plain[:end]))
    assert "middle of an extended header" in refused(gzip.compress(pax({"path": "x"})[:520]))
    assert "middle of a member" in refused(gzip.compress(pax({"path": "x"})[:-1]))


def test_attack_wrong_checksum() -> None:
    """Npm passes such a header over and goes on, others stop there: a place to hide another package.json."""
    assert "checksum" in refused(archive(packed(), member(b"package/x", checksum=1)))


def test_attack_two_sizes() -> None:
    """Whoever believes the other one reads the content as headers."""
    assert "two sizes" in refused(archive(pax({"size": "0"}), packed()))
    assert read_tarball(archive(pax({"size": str(len(JSON))}), packed())) == FOUND


def test_attack_link_with_content() -> None:
    """Some readers pass over it, others read it as headers."""
    assert "type b'1'" in refused(archive(member(b"package/x", packed(), kind=b"1")))


@pytest.mark.parametrize(
    "odd",
    [
        (member(b"package/x", kind=b"1", target=b""),),
        (member(b"package/x", kind=b"2", target=b""),),
        (member(b"package/x", b"y", target=b"z"),),
        (pax({"linkpath": "z"}), member(b"package/x", b"y")),
        (member(b"././@LongLink", b"z\0", kind=b"K"), member(b"package/x", b"y")),
    ],
)
def test_attack_links_without_target_and_targets_without_link(odd: tuple[bytes, ...]) -> None:
    """To npm such a header is none, and it reads the content as the next ones."""
    assert "with the target" in refused(archive(*odd, packed()))


@pytest.mark.parametrize("record", [{"path": "package/package.json"}, {"size": "16"}])
def test_attack_global_headers_that_name_a_file(record: dict[str, str]) -> None:
    """Npm passes over them, others rename every file."""
    assert "global header" in refused(archive(pax(record, b"g"), packed()))


@pytest.mark.parametrize(
    "odd",
    [
        member(b"package/package.json", kind=b"5"),
        member(b"package/package.json/", kind=b"5"),
        member(b"package/package.json/"),
        member(b"package/package.json/x", b"y"),
    ],
)
def test_attack_package_json_as_a_directory(odd: bytes) -> None:
    """Whether the file or the directory stays depends on the reader."""
    assert "is a directory" in refused(archive(packed(), odd))
    assert "is a directory" in refused(archive(odd, packed()))


@pytest.mark.parametrize("kind", [b"S", b"M", b"D"])
def test_sparse_and_split_files_are_refused(kind: bytes) -> None:
    """Npm does not know them, others unpack them."""
    assert "is of type" in refused(archive(member(b"package/package.json", JSON, kind=kind)))


def test_a_directory_has_no_content() -> None:
    """Whatever size it claims: all readers agree."""
    assert read_tarball(archive(member(b"package/", kind=b"5", size=600), packed())) == TarballManifest(JSON, 1, 2)


@pytest.mark.parametrize(
    "content",
    [
        b"path=package/package.json\n",
        b"99 path=x\n",
        b"8 path=x\n",
        b"0 \n",
        b"7 nokey\n",
        b"10 path=ab",
        b"09 path=x\n",
        b"12 path=a\nb\n",
        b"25 x=\n17 path=p/a.json\nyz\n",
        b"18 GNU.sparse.a=b\n",
        b"8 path=\n",
        b"10 path=\0\n",
    ],
)
def test_attack_extended_headers_that_readers_do_not_agree_on(content: bytes) -> None:
    """Npm splits them at newlines, others by their lengths: what differs is refused."""
    assert refused(archive(pax(content), packed()))


@pytest.mark.parametrize(
    "body",
    [
        archive(member(b"", JSON)),
        archive(member(b"package/package.json", JSON, size=b"garbage")),
        archive(member(b"package/package.json", JSON, size=b"\xff" * 12)),
        b"\x1f\x8b\x08garbage" * 10,
        b"not an archive",
        b"not an archive" * 100,
        archive(packed())[:-8] + b"\0" * 8,
    ],
)
def test_garbage_is_refused(body: bytes) -> None:
    """No name, no number, no gzip, no archive, a wrong check value at the end."""
    assert refused(body)


def test_an_empty_size_is_none() -> None:
    """Old programs leave it empty for directories and links."""
    assert read_tarball(archive(member(b"package/x", kind=b"2", size=b""), packed())) == TarballManifest(JSON, 1, 2)


# ---- properties

_names = st.sampled_from(["package.json", "index.js", "lib/package.json", "Package.json", "binding.gyp"])


@given(
    members=st.lists(st.tuples(_names, st.binary(max_size=700)), max_size=5),
    format_=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_ordinary_archives_are_read_as_python_reads_them(members: list[tuple[str, bytes]], format_: int) -> None:
    """Where readers agree, so does this one."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=format_, compresslevel=1) as writer:
        for name, content in members:
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            writer.addfile(info, io.BytesIO(content))
    texts = [content for name, content in members if name == "package.json"]
    both = sum(name.lower() == "package.json" for name, _ in members)
    expected = TarballManifest(
        texts[-1] if texts else None, both, len(members), any(n == "binding.gyp" for n, _ in members)
    )
    assert read_tarball(raw.getvalue()) == expected


_WHOLE = gzip.decompress(archive(pax({"path": "package/package.json"}), member(b"x", JSON), packed("other")))


@given(st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 4096))
def test_fuzz_changed_archives(changes: list[tuple[int, int]], cut: int) -> None:
    """Some bytes changed and some cut off: a result or the one error."""
    body = bytearray(_WHOLE[: len(_WHOLE) - cut])
    for at, byte in changes:
        if at < len(body):
            body[at] = byte
    for found in (bytes(body), gzip.compress(bytes(body), compresslevel=1)):
        with suppress(UpstreamProtocolError):
            read_tarball(found)


@given(st.binary(max_size=2000))
def test_fuzz_any_bytes(body: bytes) -> None:
    """Whatever they are: a result or the one error."""
    for found in (body, gzip.compress(body), b"\x1f\x8b\x08\0" + body):
        with suppress(UpstreamProtocolError):
            read_tarball(found)
