"""Claims: falsifiable statements, judged by the result tables of a study.

A claim states its prediction and its criterion before anything is measured; the verdict is
computed. "Equal" is never concluded from a difference that is not significant: an interval has to
lie within a tolerance (two one-sided tests for equivalence, Schuirmann 1987). Where a claim has
several cases, the chance that any of them is supported wrongly is kept at 5 % (Holm 1979).

References
----------
D. J. Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach for
assessing the equivalence of average bioavailability", J. Pharmacokinetics and Biopharmaceutics 15,
657-680. S. Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian
Journal of Statistics 6, 65-70. P. Massart 1990, "The tight constant in the Dvoretzky-Kiefer-
Wolfowitz inequality", Annals of Probability 18, 1269-1283. C. J. Clopper and E. S. Pearson 1934,
"The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26,
404-413.
"""

from gradprop.analysis.needs import NotMeasured, need
from gradprop.claims.cases import Case
from gradprop.claims.criteria import Above, Below, Between, Criterion, Within
from gradprop.claims.evidence import (
    CONFIDENCE,
    NO_NETWORKS,
    Evidence,
    exact,
    from_bootstrap,
    from_count,
    from_distribution,
    from_interval,
    from_layers,
    from_seeds,
    from_test,
    from_variance,
    untested,
)
from gradprop.claims.judging import Claim, holm, judge
from gradprop.claims.verdicts import (
    NOT_SUPPORTED,
    NOT_TESTED,
    SUPPORTED,
    VERDICTS,
    ClaimError,
    Result,
    broken,
    counts,
    read,
    read_listed,
    sort,
    text_table,
    write,
)

__all__ = [
    "CONFIDENCE",
    "NOT_SUPPORTED",
    "NOT_TESTED",
    "NO_NETWORKS",
    "SUPPORTED",
    "VERDICTS",
    "Above",
    "Below",
    "Between",
    "Case",
    "Claim",
    "ClaimError",
    "Criterion",
    "Evidence",
    "NotMeasured",
    "Result",
    "Within",
    "broken",
    "counts",
    "exact",
    "from_bootstrap",
    "from_count",
    "from_distribution",
    "from_interval",
    "from_layers",
    "from_seeds",
    "from_test",
    "from_variance",
    "holm",
    "judge",
    "need",
    "read",
    "read_listed",
    "sort",
    "text_table",
    "untested",
    "write",
]
