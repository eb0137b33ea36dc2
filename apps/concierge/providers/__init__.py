"""Those who carry messages away, behind one port: `DeliveryService`; `opening` makes it of the settings, `receipts`
takes in what they tell later."""

from .parcel import Parcel, Receipt, Taken
from .service import DeliveryService
from .trouble import ProviderBusyError, RestingError

__all__ = ["DeliveryService", "Parcel", "ProviderBusyError", "Receipt", "RestingError", "Taken"]
