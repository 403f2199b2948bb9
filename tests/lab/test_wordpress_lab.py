"""WordPress in the lab works for real: it is installed, a post with a picture is published, people log in.

Takes the cached roots; touches one clone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import pytest

from tests.lab.appliance import Appliance, clone
from tests.lab.soak import SOAK
from tests.lab.wordpress import (
    ADMINISTRATOR,
    DATABASE,
    PASSWORD,
    install,
    log_in,
    logged_in_as,
    publish,
    read_post,
)

pytestmark = [pytest.mark.lab, pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1; a journey has it, too")]
TITLE = "Grüße & 💩 “quoted” it's"
TEXT = "First line with ünïcödé 日本語 and 💩."


def png(size: int) -> bytes:
    """A square picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = b"".join(b"\0" + bytes((x * y) % 256 for x in range(size * 3)) for y in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def blog() -> Iterator[Appliance]:
    with clone("lamp", hostname="a") as machine:
        install(machine)
        yield machine


def test_a_visitor_reads_what_was_published_with_its_picture(blog: Appliance) -> None:
    publish(blog, TITLE, TEXT, png(400))
    post = read_post(blog)
    assert "💩" in post.title
    assert TEXT in post.text
    assert TEXT in post.page
    assert "picture-of-it" in post.page
    assert post.image == png(400)


def test_content_lies_in_the_database_and_among_the_uploads(blog: Appliance) -> None:
    publish(blog, "second", "text", png(8))
    count = blog.run(["mariadb", "-N", DATABASE], input="SELECT COUNT(*) FROM wp_posts WHERE post_status = 'publish'")
    assert int(count.stdout) >= 2
    uploads = blog.root / "var/lib/wordpress/wp-content/uploads"
    assert [path for path in uploads.rglob("*.png") if path.read_bytes() == png(8)]


def test_administrator_logs_in_and_nobody_else_does(blog: Appliance) -> None:
    cookies = log_in(blog, ADMINISTRATOR, PASSWORD)
    assert logged_in_as(blog, cookies) == ADMINISTRATOR
    assert logged_in_as(blog, {}) == ""
    assert logged_in_as(blog, {name: value + "x" for name, value in cookies.items()}) == ""
    with pytest.raises(AssertionError, match="not let in"):
        log_in(blog, ADMINISTRATOR, "wrong")
