"""What a job says about its link, as a line and as a summary."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from quarterdeck.client import Job

Verdict = Literal["ok", "moved", "broken", "away"]
ORDER: tuple[Verdict, ...] = ("ok", "moved", "broken", "away")


@dataclass(frozen=True)
class Checked:
    """A link, what it is worth, and why."""

    link: str
    verdict: Verdict
    why: str

    def line(self) -> str:
        """One line of the report."""
        return f"{self.verdict:8}{self.link}  ({self.why})"


def of_job(link: str, job: Job) -> Checked:
    """Reads the end of a call: `rejected` is the server's last word, any other failure may pass."""
    if job.state == "completed":
        seconds = f"{job.result['status']} in {job.result['elapsed']:.2f} s"
        if "url" in job.result:
            return Checked(link, "moved", f"{seconds}, is now {job.result['url']}")
        return Checked(link, "ok", seconds)
    if job.state_reason == "rejected":
        return Checked(link, "broken", job.state_detail or "refused")
    last = job.errors[-1]["message"] if job.errors else job.state_reason or job.state
    return Checked(link, "away", f"{last}; {job.attempt} tries")


def summary(checked: Sequence[Checked]) -> str:
    """How many there are of each."""
    counts = Counter(one.verdict for one in checked)
    return f"{len(checked)} links: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER)
