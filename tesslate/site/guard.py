"""Was it you? The page that the spend guard's mail leads to."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.models import User
from accounts.services import sign_out_everywhere
from accounts.tokens import live_tokens, revoke_token
from chatproxy.guard import find_by_link
from plans.models import Throttle
from plans.throttles import answer
from tesslate.lib.cause import Cause

Answer = Throttle.Answer


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def spend_guard(request: HttpRequest, token: str) -> HttpResponse:
    """Ask, and keep the answer. The link alone is enough: whoever stole a session has no mailbox.

    A GET changes nothing, since mail scanners follow links.
    """
    throttle = find_by_link(token)
    if throttle is None:
        raise Http404
    if request.method == "POST":
        _take(throttle, request.POST.get("answer", ""))
        return redirect("site:spend-guard", token=token)
    response = render(request, "site/spend_guard.html", {"throttle": throttle})
    # The address is the secret: no other site may see it. Ours must, for the CSRF check.
    response["Referrer-Policy"] = "same-origin"
    return response


def _take(throttle: Throttle, said: str) -> None:
    user = throttle.user
    cause = Cause.user(user.pk)
    if said == Answer.MINE:
        answer(throttle=throttle, answer=Answer.MINE, cause=cause)
    elif said == Answer.NOT_MINE and answer(throttle=throttle, answer=Answer.NOT_MINE, cause=cause):
        _lock_out(user, cause)


def _lock_out(user: User, cause: Cause) -> None:
    """End what a thief may hold. Virtual keys never leave the server; there is none to revoke."""
    for token in live_tokens(user):
        revoke_token(token_id=token.pk, cause=cause)
    if not user.is_staff:
        sign_out_everywhere(user_id=user.pk, cause=cause)
