"""Placeholder"""

from rest_framework.authentication import BaseAuthentication, SessionAuthentication


class FirebaseAuthentication(BaseAuthentication): ...


class CookieAuthentication(SessionAuthentication): ...
