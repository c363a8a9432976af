"""Invented campaigns: why a notification is sent, what it tells of people, what it may earn."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from flows.simulate.events import Label, label_of


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """One campaign.

    Shapes: `tracking` is (purpose, classes, categories) of what people do with its messages; an
    `audience` makes it a broadcast, which names nobody.
    Units: `weight` of its share of journeys; `appeal` scales answers; `price_minor` in minor
    units of `currency`, 0 where nothing is sold.
    """

    name: str
    tenant: str
    purpose: str
    classes: str
    source: str
    categories: tuple[str, ...] = ()
    channels: tuple[str, ...] = ("email",)
    tracking: tuple[str, str, tuple[str, ...]] = ("engagement_tracking", "PSEUDO", ("behaviour",))
    weight: int = 5
    appeal: float = 1.0
    price_minor: int = 0
    currency: str = ""
    experiment: str = ""
    audience: str = ""
    priority: str = "normal"


_CONTACT: Final = ("contact", "identity")
_TRACKED: Final = ("engagement_tracking", "PII", ("behaviour", "device"))

CAMPAIGNS: Final = (
    Campaign(
        name="welcome_harbour",
        tenant="harbour",
        purpose="new_player_reg",
        classes="GDPR,PII",
        categories=_CONTACT,
        source="/game/signup",
        channels=("email", "in_app", "push"),
        weight=12,
        appeal=1.4,
    ),
    Campaign(
        name="spring_sale",
        tenant="harbour",
        purpose="marketing",
        classes="GDPR,PII",
        categories=_CONTACT,
        source="/shop/campaigns",
        channels=("email", "push", "web_push"),
        tracking=_TRACKED,
        weight=14,
        price_minor=1_999,
        currency="EUR",
        experiment="spring_subject",
    ),
    Campaign(
        name="night_market",
        tenant="lantern",
        purpose="marketing",
        classes="PII",
        categories=("contact",),
        source="/market/offers",
        channels=("push", "chat", "sms"),
        weight=8,
        appeal=0.9,
        price_minor=1_200,
        currency="JPY",
    ),
    Campaign(
        name="basket_reminder",
        tenant="lantern",
        purpose="marketing",
        classes="PII",
        categories=("behaviour", "contact"),
        source="/shop/basket",
        channels=("email", "sms", "push"),
        weight=9,
        appeal=1.2,
        price_minor=3_450,
        currency="GBP",
        experiment="basket_wait",
    ),
    Campaign(
        name="for_you_weekly",
        tenant="harbour",
        purpose="recommendation",
        classes="PSEUDO",
        categories=("behaviour",),
        source="/shop/recommender",
        channels=("email", "in_app", "push"),
        weight=10,
        price_minor=899,
        currency="USD",
        experiment="ranking",
    ),
    Campaign(
        name="level_tips",
        tenant="harbour",
        purpose="personalisation",
        classes="PSEUDO",
        categories=("behaviour",),
        source="/game/tips",
        channels=("in_app", "push"),
        weight=8,
        appeal=1.1,
    ),
    Campaign(
        name="order_tracking",
        tenant="lantern",
        purpose="order_update",
        classes="GDPR,PII",
        categories=("contact", "location"),
        source="/shop/orders",
        channels=("sms", "push", "email"),
        tracking=_TRACKED,
        weight=12,
        appeal=1.6,
        priority="high",
    ),
    Campaign(
        name="account_digest",
        tenant="harbour",
        purpose="account_update",
        classes="PII",
        categories=("identity",),
        source="/accounts",
        weight=6,
        appeal=0.7,
        priority="low",
    ),
    Campaign(
        name="login_alert",
        tenant="harbour",
        purpose="security",
        classes="PII",
        categories=("device", "ip"),
        source="/accounts/security",
        channels=("sms", "email", "push"),
        tracking=("security", "PII", ("device",)),
        weight=5,
        appeal=1.5,
        priority="critical",
    ),
    Campaign(
        name="clinic_reminder",
        tenant="meadow",
        purpose="transactional_notice",
        classes="PHI",
        categories=("contact", "health"),
        source="/clinic/visits",
        channels=("sms", "email", "voice"),
        weight=4,
        appeal=1.5,
        priority="high",
    ),
    Campaign(
        name="invoice_ready",
        tenant="lantern",
        purpose="payment",
        classes="GDPR,PII",
        categories=("contact", "payment"),
        source="/billing/invoices",
        tracking=("payment", "PSEUDO", ("behaviour",)),
        weight=6,
        appeal=1.8,
        price_minor=12_900,
        currency="EUR",
        priority="high",
    ),
    Campaign(
        name="town_news",
        tenant="harbour",
        purpose="marketing",
        classes="PUBLIC",
        source="/game/news",
        channels=("in_app", "web_push"),
        weight=3,
        audience="all_players",
    ),
    Campaign(
        name="status_page",
        tenant="meadow",
        purpose="ops_monitoring",
        classes="INTERNAL",
        categories=("technical",),
        source="/ops/status",
        channels=("chat", "email"),
        weight=2,
        audience="operators",
    ),
)

PAYMENT: Final = ("payment", "GDPR,PCI", ("identity", "payment"))
_PAID: Final = ("ntf.outcome.payment_received.v1", "ntf.outcome.refunded.v1")


@lru_cache(maxsize=4_096)
def label_in(campaign: Campaign, kind: str, channel: str) -> Label:
    """The label of one event type in a campaign: who says it, and under which purpose."""
    stage = kind.split(".")[1]
    purpose, classes, categories = campaign.purpose, campaign.classes, campaign.categories
    source = campaign.source
    if kind in _PAID:
        (purpose, classes, categories), source = PAYMENT, "/billing/till"
    elif kind == "ntf.orchestration.variant_assigned.v1":
        purpose, source = "experiment", "/ntf/experiments"
    elif stage in ("engagement", "outcome"):
        purpose, classes, categories = campaign.tracking
        source = "/apps/web" if channel in ("email", "web_push") else "/apps/mobile"
    elif stage in ("journey", "orchestration"):
        source = "/ntf/orchestrator"
    elif stage == "delivery":
        source = f"/senders/{channel}"
    return label_of(kind, source, purpose, classes, categories)
