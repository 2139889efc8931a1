from django.urls import path, re_path

from tesslate.site import guard, organizations, views

app_name = "site"
urlpatterns = [
    path("", views.pricing, name="pricing"),
    path("sign-in", views.sign_in, name="sign-in"),
    path("sign-up", views.sign_up, name="sign-up"),
    path("sign-out", views.sign_out, name="sign-out"),
    path("reset-password", views.reset_password, name="reset-password"),
    path("account", views.account, name="account"),
    path("organizations/<int:organization_id>", organizations.organization, name="organization"),
    path("playground", views.playground, name="playground"),
    path("spend-guard/<str:token>", guard.spend_guard, name="spend-guard"),
    # Last of all routes: the same page locally as on a server.
    re_path(r"^.*$", views.not_found),
]
