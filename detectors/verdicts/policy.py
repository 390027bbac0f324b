"""From windows to alerts: what fires, what becomes a page, what is resolved. History is one small value per subject."""

from typing import Literal

import msgspec

from driftline.detectors.plan import AlertPolicy

Transition = Literal["fires", "escalates", "resolves"]


class Standing(msgspec.Struct, frozen=True):
    """Where one alert stands.

    Parameters
    ----------
    recent
        Whether each of the last judged windows drifted, newest last, at most ``page_of`` of them.
    severity
        Of the open alert; empty while none is open.
    detector
        Of its last alert: who fired it, or made it a page.
    """

    recent: tuple[bool, ...] = ()
    severity: Literal["", "warning", "critical"] = ""
    detector: str = ""


def judge(policy: AlertPolicy, standing: Standing, *, drifted: bool) -> tuple[Standing, Transition | None]:
    """Take in one judged window.

    An alert fires as a warning at the first drifting window, becomes critical when ``page_windows`` of the last
    ``page_of`` windows drift, and is resolved after ``resolve_after`` quiet windows in a row. Windows with too few
    records are not judged and change nothing.

    Examples
    --------
    >>> policy, standing, told = AlertPolicy(), Standing(), []
    >>> for drifted in [True, True, False, False, False]:
    ...     standing, transition = judge(policy, standing, drifted=drifted)
    ...     told.append(transition)
    >>> told
    ['fires', 'escalates', None, None, 'resolves']
    """
    kept = max(policy.page_of, policy.resolve_after)
    recent = (*standing.recent, drifted)[-kept:]
    is_page = sum(recent[-policy.page_of :]) >= policy.page_windows
    if drifted and not standing.severity:
        return Standing(recent, "critical" if is_page else "warning"), "fires"
    if drifted and is_page and standing.severity == "warning":
        return Standing(recent, "critical"), "escalates"
    if standing.severity and len(recent) >= policy.resolve_after and not any(recent[-policy.resolve_after :]):
        return Standing(), "resolves"
    return Standing(recent, standing.severity, standing.detector), None


def is_idle(standing: Standing) -> bool:
    """Whether nothing is worth remembering."""
    return not standing.severity and not any(standing.recent)
