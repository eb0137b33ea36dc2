"""What `conveyor serve` serves without an app: the store, for those who come over HTTP."""

from conveyor.app import Conveyor

app = Conveyor("conveyor")
