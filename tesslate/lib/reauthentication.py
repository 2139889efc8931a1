"""The gravest acts need the password once more: a screen left open is not enough."""

from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminPasswordWidget

WRONG_PASSWORD = "This is not your password."  # noqa: S105 - a message


def password_problem(request: HttpRequest, *, field: str = "password") -> str:
    """Empty when the form brought the right password. Wrong ones count towards the lock-out."""
    staff: Any = request.user
    given = request.POST.get(field, "")
    checked = authenticate(request, username=staff.get_username(), password=given)
    return "" if checked == staff else WRONG_PASSWORD


class AsksPassword(forms.ModelForm[Any]):
    """A form of the admin whose gravest changes need the password once more.

    ``bound_to`` the request by the admin; ``grave`` names the fields whose change asks, none for
    every change.
    """

    request: HttpRequest
    grave: tuple[str, ...] = ()

    password_again = forms.CharField(
        label="Your password, once more",
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "current-password"}),
    )

    def clean_password_again(self) -> None:
        if self.grave and not set(self.grave) & set(self.changed_data):
            return
        if problem := password_problem(self.request, field="password_again"):
            raise forms.ValidationError(problem)


def bound_to(request: HttpRequest, form: type[Any]) -> type[Any]:
    """The form class for this request alone: an admin object serves all requests."""
    return type(form.__name__, (form,), {"request": request})
