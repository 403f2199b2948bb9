r"""WordPress as Debian packages it, set up and used in a lamp clone, by HTTP from inside the machine.

    with clone("lamp") as a:
        install(a)
        publish(a, "A title", "Its text", png)
        assert log_in(a, ADMINISTRATOR, PASSWORD)

Takes a clone of "lamp" and touches that alone: starts MariaDB and Apache, makes a database, an account, the blog's
configuration and its content. Sources: README.Debian of the package wordpress, the REST API's handbook.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from tests.lab.appliance import Answer, Appliance

HOST = "blog.example.org"
BLOG = "/blog"
DATABASE = "wordpress-blog"
ACCOUNT = "wp o'account"
ACCOUNT_PASSWORD = 'it\'s a \\ "secret"'
ADMINISTRATOR = "editor in chief"
PASSWORD = "correct horse ünï battery"
CONFIGURATION = f"/etc/wordpress/config-{HOST}.php"
# Its first line of input tells the request, the rest is the body. No redirect is followed: cookies come with them.
REQUEST = """
import http.client, json, sys
line, _, body = sys.stdin.buffer.read().partition(b"\\n")
method, path, headers = json.loads(line)
connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=120)
connection.request(method, path, body or None, headers)
answer = connection.getresponse()
content = answer.read()
sys.stdout.buffer.write(json.dumps([answer.status, answer.getheaders()]).encode() + b"\\n" + content)
"""


class Post(NamedTuple):
    """The newest post: as the REST API tells it, its page, and the image that goes with it."""

    title: str
    text: str
    page: str
    image: bytes


def install(a: Appliance) -> None:
    """Make the database, the configuration and the blog; its administrator is `ADMINISTRATOR` with `PASSWORD`."""
    a.start("mariadb", "apache2")
    account = f"'{_doubled(ACCOUNT)}'@'localhost'"
    statements = (
        f"CREATE DATABASE `{DATABASE}` CHARACTER SET utf8mb4;\n"
        f"CREATE USER {account} IDENTIFIED BY '{_doubled(ACCOUNT_PASSWORD)}';\n"
        f"GRANT ALL PRIVILEGES ON `{DATABASE}`.* TO {account};\n"
    )
    a.run(["mariadb", "--binary-mode"], input=statements)
    constants = {"DB_NAME": DATABASE, "DB_USER": ACCOUNT, "DB_PASSWORD": ACCOUNT_PASSWORD, "DB_HOST": "localhost"}
    lines = [f"define('{key}', '{_escaped(value)}');" for key, value in constants.items()]
    a.run(["tee", CONFIGURATION], input="\n".join(["<?php", *lines, ""]))
    a.run(["chown", "root:www-data", CONFIGURATION])
    a.run(["chmod", "640", CONFIGURATION])
    form = {
        "weblog_title": "Lab's “blog” 💩",
        "user_name": ADMINISTRATOR,
        "admin_password": PASSWORD,
        "admin_password2": PASSWORD,
        "pw_weak": "1",
        "admin_email": "editor@example.org",
        "blog_public": "0",
    }
    answer = send(a, "POST", f"{BLOG}/wp-admin/install.php?step=2", form=form)
    assert answer.status == 200, answer
    assert b"wp-login.php" in answer.body, answer


def log_in(a: Appliance, user: str, password: str) -> dict[str, str]:
    """The cookies of a session; AssertionError if WordPress does not let the user in."""
    form = {"log": user, "pwd": password, "wp-submit": "Log In", "testcookie": "1"}
    _, cookies = _exchange(
        a, "POST", f"{BLOG}/wp-login.php", cookies={"wordpress_test_cookie": "WP%20Cookie%20check"}, form=form
    )
    found = {name: value for name, value in cookies.items() if name.startswith(("wordpress_", "wp-"))}
    assert any(name.startswith("wordpress_logged_in_") for name in found), f"not let in as {user}"
    return found


def logged_in_as(a: Appliance, cookies: Mapping[str, str]) -> str:
    """The name of the user whom these cookies let into the dashboard; empty if they let in nobody."""
    if send(a, "GET", f"{BLOG}/wp-admin/profile.php", cookies=cookies).status != 200:
        return ""
    me = _rest(a, "GET", "/wp/v2/users/me&context=edit", cookies)
    return str(json.loads(me.body)["username"])


def publish(a: Appliance, title: str, text: str, image_bytes: bytes) -> None:
    """Upload a PNG image and publish a post that shows it, as the administrator."""
    cookies = log_in(a, ADMINISTRATOR, PASSWORD)
    headers = {"Content-Type": "image/png", "Content-Disposition": 'attachment; filename="picture of it.png"'}
    media = json.loads(_rest(a, "POST", "/wp/v2/media", cookies, headers, image_bytes).body)
    content = f'{text}\n\n<img src="{media["source_url"]}" alt="picture">'
    post = {"title": title, "content": content, "status": "publish", "featured_media": media["id"]}
    _rest(a, "POST", "/wp/v2/posts", cookies, {"Content-Type": "application/json"}, json.dumps(post).encode())


def read_post(a: Appliance) -> Post:
    """The newest post as any visitor gets it."""
    post = json.loads(_seen(a, f"{BLOG}/index.php?rest_route=/wp/v2/posts").body)[0]
    media = json.loads(_seen(a, f"{BLOG}/index.php?rest_route=/wp/v2/media/{post['featured_media']}").body)
    page = _seen(a, _path(post["link"])).body.decode()
    image = _seen(a, _path(media["source_url"])).body
    return Post(post["title"]["rendered"], post["content"]["rendered"], page, image)


def send(
    a: Appliance,
    method: str,
    path: str,
    *,
    cookies: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """One request to the blog's host; redirects are not followed."""
    return _exchange(a, method, path, cookies=cookies, headers=headers, form=form, body=body)[0]


def _exchange(
    a: Appliance,
    method: str,
    path: str,
    *,
    cookies: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> tuple[Answer, dict[str, str]]:
    """The answer, and the cookies that came with it."""
    sent = {"Host": HOST, **(headers or {})}
    if cookies:
        sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    if form is not None:
        sent["Content-Type"] = "application/x-www-form-urlencoded"
        body = urlencode(form).encode()
    order = json.dumps([method, path, sent]).encode() + b"\n" + body
    head, _, content = a.run(["python3", "-c", REQUEST], input=order, text=False).stdout.partition(b"\n")
    status, pairs = json.loads(head)
    given: dict[str, str] = {}
    for name, value in pairs:
        if name.lower() == "set-cookie":
            key, _, worth = value.partition(";")[0].partition("=")
            given[key] = worth
    return Answer(status, dict(pairs), content), given


def _rest(
    a: Appliance,
    method: str,
    route: str,
    cookies: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    nonce = send(a, "GET", f"{BLOG}/wp-admin/admin-ajax.php?action=rest-nonce", cookies=cookies).body.decode()
    assert re.fullmatch("[0-9a-f]+", nonce), "not logged in"
    path = f"{BLOG}/index.php?rest_route={route}"
    answer = send(a, method, path, cookies=cookies, headers={"X-WP-Nonce": nonce, **(headers or {})}, body=body)
    assert answer.status in (200, 201), answer
    return answer


def _seen(a: Appliance, path: str) -> Answer:
    answer = a.http_get(path, host=HOST)
    assert answer.status == 200, answer
    return answer


def _path(address: str) -> str:
    parts = urlsplit(address)
    assert parts.netloc == HOST, address
    return quote(parts.path, safe="/%") + (f"?{parts.query}" if parts.query else "")


def _doubled(word: str) -> str:
    """For a string literal of SQL."""
    return word.replace("\\", "\\\\").replace("'", "''")


def _escaped(word: str) -> str:
    """For a string literal of PHP."""
    return word.replace("\\", "\\\\").replace("'", "\\'")
