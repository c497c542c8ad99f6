# SPDX-License-Identifier: MIT
"""
The controller API over HTTPS.

Who says what to whom: a controller asks ``POST /<function>`` with ``args`` (a JSON list) and ``kwargs`` (a
JSON object), as form fields or as one JSON object; the answer is the JSON of the returned value. ``GET /``
lists the functions. Everything but ``authenticate``, ``challenge_response``, ``/healthz`` and ``/version``
needs a token, which those two functions give to whoever proves to hold the administrator's private key.
``GET /ws`` becomes a WebSocket, on which the speaker of the named subprotocol goes on.

The server: ``interface`` (the listening service), ``calls`` (routing, calls), ``authentication`` (guard and
login), ``limits`` (the channel that refuses before it buffers), ``request`` (one request and its answer),
``upgrade`` and ``websocket``, ``strict_json``, ``health``. The client, which loads nothing of the server:
``controller`` (`WebController`), ``session``, ``answers``, ``connection``, ``login``, ``key``.
"""
