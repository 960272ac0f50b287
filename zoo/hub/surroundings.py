"""What a transfer needs of its surroundings, looked at before it begins: settings that libraries would blame on something else.

Imports no client.
"""

from __future__ import annotations

import importlib.util
import os
import ssl
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from zoo.errors import UserError, first_line
from zoo.home import HOME_VARIABLE, zoo_home
from zoo.hub.names import ENDPOINT_VARIABLE

_PROXY_SCHEMES, _SOCKS_SCHEMES = ("http", "https"), ("socks4", "socks4a", "socks5", "socks5h")
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_HUB_HOME_VARIABLES = ("HF_HUB_CACHE", "HF_HOME")


def check_hub_settings() -> None:
    """Raise UserError where a variable keeps the Hub's client from working; the sentence names it, and no secret that it holds."""
    _check_endpoint()
    _check_certificates()
    _check_token()
    _check_hub_home()
    for variable, scheme in _proxies():
        if scheme in _SOCKS_SCHEMES and importlib.util.find_spec("socksio") is None:
            raise UserError(
                f"{variable} names a SOCKS proxy ({scheme}://...), which the Hub's client reaches only with the package socksio; "
                "`pip install socksio`, or name an http:// proxy"
            )
        if scheme not in _PROXY_SCHEMES + _SOCKS_SCHEMES:
            raise _no_proxy(variable, scheme)


def check_download_settings(host: str) -> None:
    """The same for a download from ``host``, an authors' own server."""
    _check_certificates()
    if proxy_bypass(host):
        return
    for variable, scheme in _proxies():
        if scheme in _SOCKS_SCHEMES:
            raise UserError(
                f"{variable} names a SOCKS proxy ({scheme}://...), and downloads from authors' servers know http:// proxies alone; name "
                f"one, or put {host} into NO_PROXY"
            )
        if scheme not in _PROXY_SCHEMES:
            raise _no_proxy(variable, scheme)


def check_home() -> None:
    """Raise UserError where what is downloaded and remembered could not be kept; the sentence names the variable that decides the place."""
    home = zoo_home()
    variable = next((name for name in (HOME_VARIABLE, "XDG_CACHE_HOME") if os.environ.get(name)), "HOME")
    _check_folder(home, variable, f"; {HOME_VARIABLE} moves it")


def _check_endpoint() -> None:
    text = os.environ.get(ENDPOINT_VARIABLE)
    if text is None:
        return
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{ENDPOINT_VARIABLE} is '{text}', which is no address: it begins with https:// (or http://) and a host's name")


def _check_certificates() -> None:
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        text = os.environ.get(variable)
        if not text:
            continue
        path = Path(text)
        if not (path.is_dir() if variable == "SSL_CERT_DIR" else path.is_file()):
            kind = "folder" if variable == "SSL_CERT_DIR" else "file"
            raise UserError(f"{variable} is '{text}', and there is no such {kind}; correct it, or unset it")
        if variable == "SSL_CERT_FILE":
            try:
                ssl.create_default_context(cafile=text)
            except OSError as error:  # SSLError is one
                raise UserError(
                    f"{variable} is '{text}', which holds no certificates that can be read ({first_line(error)}); correct it, or unset it"
                ) from error


def _check_token() -> None:
    held = next(((name, text) for name in _TOKEN_VARIABLES if (text := os.environ.get(name, "").strip())), None) or _token_file()
    if held is None:
        return
    where, text = held
    strange = next((sign for sign in text if not (sign.isascii() and sign.isprintable() and sign != " ")), None)
    if strange is not None:
        raise UserError(f"{where} has the character {strange!r}, which no token has; copy the token again from the Hub's settings page")


def _token_file() -> tuple[str, str] | None:
    """The file that `hf auth login` writes, and the token in it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    path = Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()
    try:
        return str(path), path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _check_hub_home() -> None:
    for variable in _HUB_HOME_VARIABLES:
        if text := os.environ.get(variable):
            _check_folder(Path(text).expanduser().absolute(), variable, "")
            return


def _check_folder(folder: Path, variable: str, advice: str) -> None:
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        what = "is a file" if there == folder else f"lies in {there}, which is a file"
        raise UserError(f"{folder} {what}, and must be a folder ({variable} says so){advice}")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise UserError(f"{folder} cannot be written: {there} is not yours to write to ({variable} says so){advice}")


def _proxies() -> list[tuple[str, str]]:
    """The variables that name a proxy, and its scheme: of what is in use for http and https."""
    found = []
    for kind, address in getproxies().items():
        if kind not in ("http", "https", "all") or not address:
            continue
        scheme = address.partition("://")[0].lower() if "://" in address else _PROXY_SCHEMES[0]
        variable = f"{kind}_proxy"
        found.append((variable if os.environ.get(variable) else variable.upper(), scheme))
    return found


def _no_proxy(variable: str, scheme: str) -> UserError:
    return UserError(f"{variable} names a proxy by '{scheme}://', which is none that is known; it begins with http:// or https://")
