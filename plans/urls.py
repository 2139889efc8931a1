from django.urls import path

from plans import views
from plans.overage_views import OverageView
from plans.webhooks import stripe_webhook

urlpatterns = [
    path("webhooks/stripe", stripe_webhook, name="stripe-webhook"),
    path("api/plans", views.PlansView.as_view(), name="plans"),
    path("api/models", views.ModelsView.as_view(), name="models"),
    path("api/billing/subscription", views.SubscriptionView.as_view(), name="subscription"),
    path("api/billing/checkout", views.CheckoutView.as_view(), name="checkout"),
    path("api/billing/overage", OverageView.as_view(), name="overage"),
    path("api/billing/portal", views.PortalView.as_view(), name="portal"),
]
