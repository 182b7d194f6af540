"""PromQL: parsed by `promql-parser`, evaluated here, vectorised over series and steps.

parse       text to expressions
expressions the nodes
evaluate    an expression over a source, at one time or at many
memo        what texts gave before
source      where samples come from
vectors     what expressions evaluate to
windows     the samples of range selectors, at every step
functions/  what can be called
aggregate   `sum by (…)` and the like
match       `a + on (…) group_left b` and the like
"""
