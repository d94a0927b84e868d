"""What the webhook knows right now, replaced whole: a request sees one view from start to end."""

from dataclasses import dataclass

from webhook.mutation import View


@dataclass(slots=True)
class State:
    """The view in force, and whether the process was asked to stop."""

    view: View
    is_stopping: bool = False

    @property
    def readiness_fault(self) -> str | None:
        """Why no requests should be sent here, or None."""
        if self.is_stopping:
            return "stopping"
        return "no good catalog was loaded yet" if self.view.index is None else None
