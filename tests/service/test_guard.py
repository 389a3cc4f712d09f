"""Who is answered: clients that name the service by its own address, and those with its token."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge.service.guard import Address, Addresses, Token

_SECRET = "0123456789abcdef-secret"


@pytest.fixture
def token_file(tmp_path: Any) -> Any:
    path = tmp_path / "token"
    path.write_text(f"{_SECRET}\n")
    path.chmod(0o600)
    return path


# Host


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "127.0.0.1:9000"]
)
def test_the_service_answers_to_its_own_address(service: Any, png: bytes, host: str) -> None:
    named = host.format(port=service.address[1])
    assert service.predict(png, Host=named).status == 200
    assert service.predict(png, Host=named, Origin=f"http://{named}").status == 200


@pytest.mark.parametrize("path", ["/", "/predict", "/metrics", "/healthz", "/readyz", "/openapi.json", "/nowhere"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:{port}", "192.168.1.1", "[fe80::1]"])
def test_another_host_is_refused_everywhere(service: Any, path: str, host: str) -> None:
    answer = service.ask("GET", path, headers={"Host": host.format(port=service.address[1])})
    assert answer.status == answer.json["status"] == 403
    assert "--allow-host NAME" in answer.json["detail"]
    assert "evil" not in answer.json["detail"]


@pytest.mark.parametrize(
    "lines",
    [b"", b"Host:\r\n", b"Host: localhost\r\nHost: evil.example\r\n", b"Host: evil.example\r\nHost: localhost\r\n",
     b"Host: localhost@evil.example\r\n", b"Host: localhost/evil\r\n", b"Host: localhost:port\r\n",
     b"Host: \xff\xfe\r\n"],
)  # fmt: skip
def test_a_host_that_is_none_is_refused(service: Any, lines: bytes) -> None:
    with socket.create_connection(service.address, timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
        status = connection.recv(12)
    assert status in (b"HTTP/1.1 403", b"HTTP/1.1 400")


@pytest.mark.parametrize("value", [b" localhost ", b"\tlocalhost\t \t", b"localhost  "])
def test_spaces_around_a_value_are_none_of_it(service: Any, png: bytes, value: bytes) -> None:
    lines = b"Host:%b\r\nContent-Type: image/png \r\nContent-Encoding: identity\t\r\n" % value
    lines += b"Origin: http://localhost \r\nContent-Length: %d \r\n" % len(png)
    with socket.create_connection(service.address, timeout=30) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\n" + lines + b"Connection: close\r\n\r\n" + png)
        assert connection.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("path", ["/predict", "/healthz"])
@pytest.mark.parametrize(
    ("codings", "status"),
    [
        (["chunked"], 200), (["Chunked "], 200), (["gzip, chunked"], 501), (["gzip", "chunked"], 501),
        (["identity, chunked"], 501),
        # Of these the parser does not know where the body ends.
        (["chunked, chunked"], 400), (["gzip"], 400), (["chunked, gzip"], 400),
    ],
)  # fmt: skip
def test_a_transfer_coding_that_is_not_undone_is_refused(
    service: Any, png: bytes, path: str, codings: list[str], status: int
) -> None:
    lines = "".join(f"Transfer-Encoding: {coding}\r\n" for coding in codings)
    method = "POST" if path == "/predict" else "GET"
    with socket.create_connection(service.address, timeout=30) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(png), png))
        assert int(connection.recv(12).split()[1]) == status


@given(st.text(max_size=30) | st.from_regex(r"[a-z0-9.\[\]:-]{1,40}", fullmatch=True))
def test_no_text_is_taken_for_a_name_of_this_machine(text: str) -> None:
    address = Address.parse(text)
    if address and Addresses("127.0.0.1").has_host(address, "127.0.0.1"):
        assert address.name == "localhost" or address.name.startswith("127.") or address.name == "::1"


def test_an_allowed_host_may_have_a_port(serve: Any, png: bytes) -> None:
    with serve("--allow-host", "x-ray.example", "--allow-host", "Other.Example:8443") as service:
        for host, status in (("x-ray.example", 200), ("X-Ray.example:8443", 200), ("other.example:8443", 200),
                             ("other.example", 403), ("y.x-ray.example", 403), ("localhost", 200)):  # fmt: skip
            assert service.predict(png, Host=host).status == status, host
        # A proxy passes the address that it asks by; the browser, that of the proxy.
        for origin, status in (("https://x-ray.example", 200), ("https://x-ray.example:444", 403),
                               ("https://other.example:8443", 200), ("https://other.example", 403)):  # fmt: skip
            assert service.predict(png, Origin=origin).status == status, origin


def test_the_address_that_others_reach_it_by_is_its_own() -> None:
    everywhere, here = Addresses("0.0.0.0"), Addresses("device.local")
    for name in ("192.0.2.7", "localhost", "0.0.0.0"):
        assert everywhere.has_host(Address(name, "8000"), "192.0.2.7")
    assert everywhere.has_host(Address("192.0.2.7", None), "::ffff:192.0.2.7")
    assert not everywhere.has_host(Address("192.0.2.8", None), "192.0.2.7")
    assert here.has_host(Address("device.local", "8000"), "192.0.2.7")
    assert not here.has_host(Address("localhost", "8000"), "192.0.2.7")


# Pages of other sites


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"}, {"Origin": ""},
     {"Origin": "http://127.0.0.1.evil.example"}, {"Origin": "file://"}, {"Sec-Fetch-Site": "cross-site"},
     {"Sec-Fetch-Site": "CROSS-SITE", "Sec-Fetch-Mode": "navigate"},
     {"Sec-Fetch-Site": "cross-site "}, {"Sec-Fetch-Site": "none", "sec-fetch-site": "cross-site"},
     {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}],
)  # fmt: skip
def test_what_the_page_of_another_site_asks_is_refused(service: Any, png: bytes, headers: dict[str, str]) -> None:
    answer = service.ask("POST", "/predict", png, {"Content-Type": "image/png", **headers})
    assert answer.status == 403
    assert "another site" in answer.json["detail"]
    assert service.ask("GET", "/", headers=headers).status == 403


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_its_own_page_may_ask(service: Any, png: bytes, site: str) -> None:
    assert service.predict(png, Sec_Fetch_Site=site).status == 200


# Token


def test_with_a_token_images_and_metrics_need_it(serve: Any, png: bytes, token_file: Any) -> None:
    with serve("--token-file", token_file) as service:
        for value in (
            None,
            "Bearer wrong",
            f"Basic {_SECRET}",
            "Bearer",
            f"Bearer {_SECRET[:-1]}",
            f"Bearer {_SECRET}x",
        ):
            headers = {"Authorization": value} if value else {}
            answer = service.predict(png, **headers)
            assert answer.status == 401, value
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert _SECRET not in answer.json["detail"]
            assert service.ask("GET", "/metrics", headers=headers).status == 401
        assert service.predict(png, Authorization=f"Bearer {_SECRET}").status == 200
        assert service.predict(png, Authorization=f"bearer {_SECRET}").status == 200
        assert service.ask("GET", "/metrics", headers={"Authorization": f"Bearer {_SECRET}"}).status == 200
        for path in ("/", "/script.js", "/healthz", "/readyz", "/openapi.json"):
            assert service.ask("GET", path).status == 200
        description = service.ask("GET", "/openapi.json").json
        assert description["paths"]["/predict"]["post"]["security"] == [{"token": []}]
        assert _SECRET not in service.log.read_text()


@given(st.text(max_size=40))
def test_no_other_text_is_the_token(text: str) -> None:
    token = Token(_SECRET)
    assert token.fits(f"Bearer {_SECRET}")
    assert not token.fits(text)
    assert token.fits(f"Bearer {text}") == (text.strip() == _SECRET)


def test_a_refused_body_does_not_lose_its_refusal(serve: Any, token_file: Any) -> None:
    with serve("--token-file", token_file) as service:
        assert service.predict(bytes(30_000_000)).status == 401
        assert service.predict(bytes(30_000_000), Origin="http://evil.example").status == 403
