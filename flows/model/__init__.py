"""The delivery-time model: learns who answers when, and draws times with known odds.

Everything here is pure: no engine, no client, no clock, no environment.
"""

from flows.model.delivery_time import DeliveryTimeModel

__all__ = ["DeliveryTimeModel"]
