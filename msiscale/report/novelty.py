"""How unlike the others each held-out specimen's H&E is: the evidence behind the mark."""

from __future__ import annotations

from msiscale.report.data import Results
from msiscale.report.tables import HtmlTable, Section
from msiscale.report.thumbnails import seen_of

FAR = 0.1  #: share of its pixels beyond the limit from which a specimen is unlike the others
MANY = 0.25  #: share of such specimens from which the mark is red
_ROWS = 50


def novelty(results: Results) -> HtmlTable:
    """Share of each specimen's pixels whose H&E is beyond the limit, the most first."""
    found = {name: one.beyond for name, one in seen_of(results).items()}
    known = [(name, share) for name, share in found.items() if share is not None]
    known.sort(key=lambda pair: -pair[1])
    rows = [[n, f"{s:.1%}", "yes" if s >= FAR else "no"] for n, s in known[:_ROWS]]
    return HtmlTable(["specimen", "pixels beyond the limit", "unlike the others"], rows)


NOVELTY = Section(
    "novelty",
    "Novelty",
    """\
<h2 id="novelty">Novelty</h2>
<p class="note">This shows how unlike the training patients the H&amp;E of each held-out specimen is. The limit leaves out 1 % of the pixels of all held-out patients
by distance and 1 % by direction, so one or two per cent beyond it are normal. A prediction of what is beyond the limit is an extrapolation.</p>
{{ cells(novelty, "Share of pixels whose H&E is beyond the limit, the largest first.", "No specimen was compared with the others: that needs two patients.") }}
""",  # noqa: E501
    (novelty,),
    unless=lambda r: "" if r.is_study else "no patient was held out",
)
