# SPDX-License-Identifier: Apache-2.0
"""The page that shows live pictures in a browser, and on which a person chooses what the policy sees of them."""

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from aiohttp import web
from numpy.typing import NDArray
from serl_config.own_page import OwnPage
from serl_config.schema import ConfigError
from serl_config.strict_json import JsonError, parse_json
from serl_tasks.camera_view import CameraView

_SHOWN_WIDTH = 960  # [pixels] that are sent to the browser at most
_JPEG_QUALITY = 85
_MOST_BYTES = 4096  # of what a browser may send
# The page is ours alone: nothing comes from elsewhere, and no other page may show it.
_SAFE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

Crop = tuple[float, float, float, float]


@dataclass(frozen=True)
class Seen:
    """What is known of a camera now."""

    picture: NDArray[np.uint8] | None
    """RGB, uint8 (H, W, 3)."""
    age: float | None
    """Age of the newest message [s]; None: none came yet."""
    problem: str
    """Why there is no picture."""


class CropServer:
    """Answers one browser page. `address_path` is secret: who does not know it sees nothing."""

    def __init__(
        self,
        title: str,
        views: Mapping[str, CameraView],
        newest: Callable[[str], Seen],
        save: Callable[[str, Crop | None], Path] | None,
        host: str = "127.0.0.1",
    ) -> None:
        """Prepare the application.

        Args:
            title: of the page.
            views: what the policy sees, by camera.
            newest: gives the newest picture of a camera; called in the server's thread.
            save: writes the crop of a camera and returns the file, or raises ConfigError; None: the page only shows.
            host: address that will be listened on; `Host` headers of other names are refused.
        """
        self._title = title
        self._views = dict(views)
        self._newest = newest
        self._save = save
        self.address_path = f"/{secrets.token_urlsafe(9)}/"
        self.app = web.Application(client_max_size=_MOST_BYTES, middlewares=[OwnPage(host).middleware])
        self.app.on_response_prepare.append(_make_safe)
        root = self.address_path
        self.app.add_routes(
            [
                web.get(root, self._page),
                web.get(root + "state", self._state),
                web.get(root + "picture/{camera}", self._picture),
                web.get(root + "view/{camera}", self._view),
                web.post(root + "crop/{camera}", self._crop),
            ]
        )

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(
            text=files("serl_cameras").joinpath("crop.html").read_text("utf-8"), content_type="text/html"
        )

    async def _state(self, _request: web.Request) -> web.Response:
        cameras = [{"name": name, "size": view.size, "crop": view.crop} for name, view in self._views.items()]
        return web.json_response({"title": self._title, "editable": self._save is not None, "cameras": cameras})

    async def _picture(self, request: web.Request) -> web.Response:
        picture, age = self._seen(request)
        height, width, _ = picture.shape
        headers = {"X-Width": str(width), "X-Height": str(height), "X-Age": f"{age:.2f}"}
        if width > _SHOWN_WIDTH:
            size = (_SHOWN_WIDTH, round(height * _SHOWN_WIDTH / width))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        return web.Response(body=_encoded(".jpg", picture), content_type="image/jpeg", headers=headers)

    async def _view(self, request: web.Request) -> web.Response:
        picture, _ = self._seen(request)
        view = self._with_crop(self._name(request), _parsed(request.query.get("crop", "null")))
        return web.Response(body=_encoded(".png", view.apply(picture)), content_type="image/png")

    async def _crop(self, request: web.Request) -> web.Response:
        name = self._name(request)
        if self._save is None:
            raise web.HTTPForbidden(text="this page only shows; start ./serl camera crop")
        view = self._with_crop(name, _parsed(await request.text()))
        try:
            path = self._save(name, view.crop)
        except ConfigError as error:
            raise web.HTTPConflict(text=str(error)) from error
        self._views[name] = view
        return web.json_response({"saved": str(path)})

    def _seen(self, request: web.Request) -> tuple[NDArray[np.uint8], float]:
        seen = self._newest(self._name(request))
        if seen.picture is None or seen.age is None:
            raise web.HTTPServiceUnavailable(text=seen.problem)
        return seen.picture, seen.age

    def _name(self, request: web.Request) -> str:
        name = request.match_info["camera"]
        if name not in self._views:
            raise web.HTTPNotFound(text=f"no camera {name!r} here")
        return name

    def _with_crop(self, camera: str, crop: Crop | None) -> CameraView:
        try:
            return replace(self._views[camera], crop=crop)
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"crop: expected a part of the picture, found {crop}") from error


async def _make_safe(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SAFE)


def _parsed(text: str) -> Crop | None:
    value: object = text
    with suppress(JsonError):
        value = parse_json(text, size=_MOST_BYTES)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(type(part) in (int, float) for part in value):
        raise web.HTTPBadRequest(text=f"crop: expected [left, top, width, height] or null, found {text[:80]!r}")
    left, top, width, height = map(float, value)
    return left, top, width, height


def _encoded(kind: str, picture: NDArray[np.uint8]) -> bytes:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(kind, bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY) if kind == ".jpg" else ())
    if not done:
        raise web.HTTPInternalServerError(text=f"a picture of {picture.shape[1]}x{picture.shape[0]} cannot be encoded")
    return data.tobytes()
